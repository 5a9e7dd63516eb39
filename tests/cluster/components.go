package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// patience bounds every wait for a component.
const patience = 2 * time.Minute

// component is one program of Kubernetes, and how to see that it works.
type component struct {
	name    string
	words   []string
	healthy func(checks) error

	process *process // none before its first start
}

func (c *component) runs() bool {
	if c.process == nil {
		return false
	}
	select {
	case <-c.process.ended:
		return false
	default:
		return true
	}
}

// components are all of them; the order does not matter here.
func components(folder string) []*component {
	at := func(parts ...string) string { return filepath.Join(append([]string{folder}, parts...)...) }
	program := func(name string) string { return at("programs", name) }
	config := func(name string) string { return at("config", name) }
	pki := func(name string) string { return at("pki", name) }
	kubeconfigs := func(name string) []string {
		file := pki(name + ".kubeconfig")
		return []string{"--kubeconfig=" + file, "--authentication-kubeconfig=" + file, "--authorization-kubeconfig=" + file}
	}
	containerd, err := exec.LookPath("containerd")
	if err != nil {
		// Starting it will fail with this name.
		containerd = "containerd"
	}
	return []*component{
		{name: "containerd", healthy: checks.containerd, words: []string{containerd, "--config", config("containerd.toml")}},
		{name: "etcd", healthy: checks.etcd, words: []string{program("etcd"), "--data-dir=" + at("etcd"), "--unsafe-no-fsync", "--log-level=warn"}},
		{name: "apiserver", healthy: checks.apiserver, words: []string{
			program("kube-apiserver"),
			"--etcd-servers=http://127.0.0.1:2379",
			"--bind-address=0.0.0.0",
			"--advertise-address=" + nodeAddress,
			"--service-cluster-ip-range=" + apiAddress[:len(apiAddress)-1] + "0/16",
			"--client-ca-file=" + pki("ca.crt"),
			"--tls-cert-file=" + pki("apiserver.crt"),
			"--tls-private-key-file=" + pki("apiserver.key"),
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + pki("service-accounts.key"),
			"--service-account-signing-key-file=" + pki("service-accounts.key"),
			"--kubelet-client-certificate=" + pki("admin.crt"),
			"--kubelet-client-key=" + pki("admin.key"),
			"--kubelet-preferred-address-types=InternalIP",
			"--authorization-mode=Node,RBAC",
			"--enable-admission-plugins=NodeRestriction",
			"--allow-privileged=true",
		}},
		{name: "controller-manager", healthy: checks.controllerManager, words: slices.Concat(
			[]string{program("kube-controller-manager")}, kubeconfigs("controller-manager"), []string{
				"--service-account-private-key-file=" + pki("service-accounts.key"),
				"--root-ca-file=" + pki("ca.crt"),
				"--cluster-signing-cert-file=" + pki("ca.crt"),
				"--cluster-signing-key-file=" + pki("ca.key"),
				"--use-service-account-credentials=true",
				"--leader-elect=false",
				// Its own limit, 20 a second, would be most of the time until pods can run.
				"--kube-api-qps=200",
				"--kube-api-burst=400",
			})},
		{name: "scheduler", healthy: checks.scheduler, words: slices.Concat(
			[]string{program("kube-scheduler")}, kubeconfigs("scheduler"), []string{"--leader-elect=false"})},
		{name: "kubelet", healthy: checks.kubelet, words: []string{
			program("kubelet"), "--config=" + config("kubelet.yaml"), "--kubeconfig=" + pki("kubelet.kubeconfig"),
			"--hostname-override=" + nodeName, "--node-ip=" + nodeAddress,
		}},
		{name: "proxy", healthy: checks.proxy, words: []string{program("kube-proxy"), "--config=" + config("proxy.yaml")}},
		{name: "dns", healthy: checks.dns, words: []string{program("coredns"), "-conf", config("Corefile")}},
	}
}

func (n *node) component(name string) (*component, error) {
	for _, component := range n.components {
		if component.name == name {
			return component, nil
		}
	}
	return nil, fmt.Errorf("there is no component %q", name)
}

// startAll starts components and waits for none.
func (n *node) startAll(names ...string) error {
	for _, name := range names {
		component, err := n.component(name)
		if err != nil {
			return err
		}
		if component.runs() {
			return fmt.Errorf("%s runs already", name)
		}
		if component.process, err = n.processes.start(component.words, n.log(name)); err != nil {
			return err
		}
	}
	return nil
}

// start starts a component and waits until it works.
func (n *node) start(name string) error {
	if err := n.startAll(name); err != nil {
		return err
	}
	return n.await(name)
}

// await waits until components work.
func (n *node) await(names ...string) error {
	for _, name := range names {
		component, err := n.component(name)
		if err != nil {
			return err
		}
		err = eventually(name, func() error {
			select {
			case <-component.process.ended:
				return final{fmt.Errorf("%s %s; its log ends:\n%s", name, describe(component.process.status), tail(n.log(name)))}
			default:
				return component.healthy(checks{n.folder})
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// end sends a component a signal and waits until it has gone; what does not go is killed.
func (n *node) end(name string, signal syscall.Signal) error {
	if err := n.signal(name, signal); err != nil {
		return err
	}
	component, err := n.component(name)
	if err != nil {
		return err
	}
	// One that is frozen cannot end.
	_ = syscall.Kill(component.process.pid, syscall.SIGCONT)
	select {
	case <-component.process.ended:
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(component.process.pid, syscall.SIGKILL)
		<-component.process.ended
	}
	return nil
}

// signal only sends it.
func (n *node) signal(name string, signal syscall.Signal) error {
	component, err := n.component(name)
	if err != nil {
		return err
	}
	if !component.runs() {
		return fmt.Errorf("%s does not run", name)
	}
	return syscall.Kill(component.process.pid, signal)
}

func (n *node) log(name string) string { return filepath.Join(n.folder, "log", name+".log") }

// final is an error after which looking again is of no use.
type final struct{ error }

// eventually looks again and again until there is no error any more.
func eventually(what string, look func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(25 * time.Millisecond) {
		err := look()
		if err == nil {
			return nil
		}
		if gone, is := err.(final); is {
			return gone.error
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %s: %w", what, patience, err)
		}
	}
}
