package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// keep stays outside the namespaces: it makes what the kernel does not remove by itself, and removes it at the end.
func keep(folder string, images []string) error {
	// The kernel ties the node to the thread that started it, so that thread must live as long as we do.
	runtime.LockOSThread()
	over := endOfOwner()
	sweep(filepath.Dir(folder))
	lock, err := claim(folder)
	if err != nil {
		return err
	}
	defer lock.Close()
	name := filepath.Base(folder)
	err = errors.Join(func() error {
		if err := makeCgroups(name); err != nil {
			return err
		}
		return keepNode(folder, images, over)
	}(), removeCgroups(name), os.RemoveAll(folder))
	if err == nil {
		say("removed")
	}
	return err
}

// keepNode runs the node until the owner has gone, or until it fails.
func keepNode(folder string, images []string, over <-chan struct{}) error {
	api, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer api.Close()
	if err := makePKI(folder, api.Addr().String()); err != nil {
		return err
	}
	node, err := startNode(folder, images, api.(*net.TCPListener))
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- node.Wait() }()
	select {
	case <-over:
		// Every process in there ends with process 1, and every mount and interface with the last process.
		_ = node.Process.Kill()
		<-ended
		return nil
	case err := <-ended:
		return fmt.Errorf("the node ended by itself: %w", err)
	}
}

// startNode starts this program again as process 1 of new namespaces. It gets a socket that listens outside, by which
// the API server is reached from there.
func startNode(folder string, images []string, api *net.TCPListener) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	listener, err := api.File()
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	node := exec.Command(program, append([]string{"node", folder}, images...)...)
	node.Stdout, node.Stderr = os.Stdout, os.Stdout
	node.ExtraFiles = []*os.File{listener}
	node.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := node.Start(); err != nil {
		return nil, fmt.Errorf("cannot make namespaces (only root can): %w", err)
	}
	pid := strconv.Itoa(node.Process.Pid)
	return node, os.WriteFile(filepath.Join(folder, "pid"), []byte(pid), 0o644)
}

// endOfOwner is closed when our standard input ends or somebody sends SIGTERM. A Ctrl-C of the terminal is the owner's.
func endOfOwner() <-chan struct{} {
	// Caught and forgotten, not ignored: what is ignored stays ignored in every process that we start.
	forgotten := make(chan os.Signal, 1)
	signal.Notify(forgotten, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(gone)
	}()
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-asked:
		case <-gone:
		}
	}()
	return over
}
