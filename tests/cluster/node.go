package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// The node, as every component and every journey knows it.
const (
	nodeName    = "node0"
	nodeAddress = "10.88.0.1"
	apiAddress  = "10.96.0.1" // of the Service `kubernetes`
)

// runNode is process 1 of the namespaces: the machine boots, the components start, and it obeys its owner until it is
// killed, which ends everything in there.
func runNode(folder string, images []string) error {
	if err := boot(folder); err != nil {
		return err
	}
	listener := os.NewFile(3, "the API server's address outside")
	if err := forward(listener, "127.0.0.1:6443"); err != nil {
		return err
	}
	node := &node{folder: folder, components: components(folder), processes: newProcesses()}
	if err := node.bringUp(images); err != nil {
		return err
	}
	if err := node.serve(filepath.Join(folder, "control.sock")); err != nil {
		return err
	}
	say("ready")
	select {}
}

// boot gives the machine its name, its file systems and its network.
func boot(folder string) error {
	if err := syscall.Sethostname([]byte(nodeName)); err != nil {
		return fmt.Errorf("cannot name the machine: %w", err)
	}
	if err := mountAll(folder); err != nil {
		return err
	}
	if err := configure(folder); err != nil {
		return err
	}
	return connect()
}

// node is the machine with everything that runs on it.
type node struct {
	folder     string
	components []*component
	processes  *processes
}

// bringUp starts the components in the order in which they need each other.
func (n *node) bringUp(images []string) error {
	if err := n.startAll("containerd", "etcd", "apiserver"); err != nil {
		return err
	}
	loaded := make(chan error, 1)
	go func() { loaded <- n.load(images) }()
	if err := n.await("etcd", "apiserver"); err != nil {
		return err
	}
	say("the API server answers")
	if err := n.startAll("controller-manager", "scheduler", "kubelet", "proxy", "dns"); err != nil {
		return err
	}
	if err := <-loaded; err != nil {
		return err
	}
	if err := n.await("containerd", "controller-manager", "scheduler", "kubelet", "proxy", "dns"); err != nil {
		return err
	}
	say("every component answers")
	return n.awaitPodsCanRun()
}

// load imports image archives, as soon as containerd listens.
func (n *node) load(images []string) error {
	if err := n.await("containerd"); err != nil {
		return err
	}
	ctr, err := exec.LookPath("ctr")
	if err != nil {
		return err
	}
	for _, image := range images {
		words := []string{ctr, "--address", n.socket(), "--namespace", "k8s.io", "images", "import", image}
		if err := n.processes.run(words, filepath.Join(n.folder, "log", "load.log")); err != nil {
			return fmt.Errorf("cannot load %s: %w", image, err)
		}
	}
	return nil
}

// socket is where containerd listens, reachable from outside too.
func (n *node) socket() string { return filepath.Join(n.folder, "containerd.sock") }

// restart does to pods what a reboot of their node does: every process of theirs is gone, and what was in memory; what
// was on disk is there. The control plane, which lives on other machines elsewhere, goes on.
func (n *node) restart() error {
	for _, name := range []string{"kubelet", "proxy", "containerd"} {
		if err := n.end(name, syscall.SIGKILL); err != nil {
			return err
		}
	}
	if err := n.processes.killStrangers(); err != nil {
		return err
	}
	if err := forgetMemory(n.folder); err != nil {
		return err
	}
	if err := disconnectPods(); err != nil {
		return err
	}
	for _, name := range []string{"containerd", "proxy", "kubelet"} {
		if err := n.start(name); err != nil {
			return err
		}
	}
	return nil
}
