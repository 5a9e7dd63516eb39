package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// connect sets up the node's own network. Each pod gets a cable of its own to the node (the CNI plugin `ptp`), so that
// all that passes between pods passes through the node and its rules; nothing leads out of it.
func connect() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("cannot bring loopback up: %w", err)
	}
	address := net.ParseIP(nodeAddress)
	own := &netlink.Addr{IPNet: &net.IPNet{IP: address, Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(loopback, own); err != nil {
		return fmt.Errorf("cannot take the address %s: %w", nodeAddress, err)
	}
	_, services, err := net.ParseCIDR(apiAddress + "/16")
	if err != nil {
		return err
	}
	// What the node itself sends to a Service needs a route before it can be sent elsewhere.
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: loopback.Attrs().Index, Dst: services, Src: address}); err != nil {
		return fmt.Errorf("cannot route %s: %w", services, err)
	}
	_, everywhere, err := net.ParseCIDR("0.0.0.0/0")
	if err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{Dst: everywhere, Type: unix.RTN_UNREACHABLE}); err != nil {
		return fmt.Errorf("cannot close the way out: %w", err)
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}

// disconnectPods removes their cables.
func disconnectPods() error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, "veth") {
			// It goes by itself when its pod's end goes first.
			if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("cannot remove %s: %w", link.Attrs().Name, err)
			}
		}
	}
	return nil
}

// forward passes on to address, in here, what connects to a socket that listens out there.
func forward(socket *os.File, address string) error {
	listener, err := net.FileListener(socket)
	if err != nil {
		return err
	}
	go func() {
		for {
			outside, err := listener.Accept()
			if err != nil {
				return
			}
			go join(outside.(*net.TCPConn), address)
		}
	}()
	return nil
}

// join moves bytes both ways until both have ended.
func join(outside *net.TCPConn, address string) {
	defer outside.Close()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	inside := connection.(*net.TCPConn)
	defer inside.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(inside, outside)
		_ = inside.CloseWrite()
	}()
	_, _ = io.Copy(outside, inside)
	_ = outside.CloseWrite()
	<-done
}
