package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// checks look whether a component works, each in its own way.
type checks struct{ folder string }

func (c checks) containerd() error {
	socket := "unix://" + filepath.Join(c.folder, "containerd.sock")
	connection, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	bound, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	answer, err := runtime.NewRuntimeServiceClient(connection).Status(bound, &runtime.StatusRequest{})
	if err != nil {
		return err
	}
	for _, condition := range answer.Status.Conditions {
		if !condition.Status {
			return fmt.Errorf("%s: %s", condition.Type, condition.Message)
		}
	}
	return nil
}

func (c checks) etcd() error              { return c.answers("http://127.0.0.1:2379/health") }
func (c checks) apiserver() error         { return c.answers("https://127.0.0.1:6443/readyz") }
func (c checks) controllerManager() error { return c.answers("https://127.0.0.1:10257/healthz") }
func (c checks) scheduler() error         { return c.answers("https://127.0.0.1:10259/healthz") }
func (c checks) kubelet() error           { return c.answers("http://127.0.0.1:10248/healthz") }
func (c checks) proxy() error             { return c.answers("http://127.0.0.1:10256/healthz") }

func (c checks) dns() error {
	bound, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	ask := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", nodeAddress+":53")
	}
	resolver := &net.Resolver{PreferGo: true, Dial: ask}
	_, err := resolver.LookupHost(bound, "kubernetes.default.svc.cluster.local.")
	return err
}

// awaitPodsCanRun waits for what the first pod needs: a ready node and its namespace's service account.
func (n *node) awaitPodsCanRun() error {
	c := checks{n.folder}
	if err := eventually("the node is ready", c.node); err != nil {
		return fmt.Errorf("%w; the kubelet's log ends:\n%s", err, tail(n.log("kubelet")))
	}
	return eventually("there is a service account", func() error {
		return c.answers("https://127.0.0.1:6443/api/v1/namespaces/default/serviceaccounts/default")
	})
}

func (c checks) node() error {
	body, err := c.get("https://127.0.0.1:6443/api/v1/nodes/" + nodeName)
	if err != nil {
		return err
	}
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := json.Unmarshal(body, &node); err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == "Ready" && condition.Status == "True" {
			return nil
		}
		if condition.Type == "Ready" {
			return fmt.Errorf("%s", condition.Message)
		}
	}
	return fmt.Errorf("it has no condition Ready")
}

func (c checks) answers(url string) error {
	_, err := c.get(url)
	return err
}

// get asks as the administrator.
func (c checks) get(url string) ([]byte, error) {
	admin, err := tls.LoadX509KeyPair(filepath.Join(c.folder, "pki", "admin.crt"), filepath.Join(c.folder, "pki", "admin.key"))
	if err != nil {
		return nil, err
	}
	// Some of them have certificates of their own making, and nobody else is in here.
	settings := &tls.Config{Certificates: []tls.Certificate{admin}, InsecureSkipVerify: true}
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: settings, DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s says %s: %s", url, answer.Status, body)
	}
	return body, err
}
