package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// mountAll hides what of the machine the components would write to. Nothing of it is seen outside this mount namespace.
func mountAll(folder string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot keep mounts to ourselves: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("cannot mount /proc: %w", err)
	}
	// The programs may lie below a folder that is hidden next.
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := bind(filepath.Dir(program), filepath.Join(folder, "programs")); err != nil {
		return err
	}
	for _, hidden := range []string{"/run", "/var/lib", "/var/log"} {
		if strings.HasPrefix(folder, hidden+"/") {
			return fmt.Errorf("%s may not lie below %s: name another folder for temporary files with TMPDIR", folder, hidden)
		}
		if err := syscall.Mount("tmpfs", hidden, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("cannot hide %s: %w", hidden, err)
		}
	}
	if err := os.Mkdir("/var/lib/kubelet", 0o755); err != nil {
		return err
	}
	if err := bind(filepath.Join(folder, "kubelet"), "/var/lib/kubelet"); err != nil {
		return err
	}
	// Otherwise the kubelet does this itself, while other parts of it already write there.
	if err := syscall.Mount("", "/var/lib/kubelet", "", syscall.MS_SHARED|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot share /var/lib/kubelet with pods: %w", err)
	}
	return shieldSysctls(filepath.Join(folder, "sysctl"))
}

// shieldSysctls shows the kubelet the values that it wants to see, so that it leaves those of the machine alone.
func shieldSysctls(folder string) error {
	for name, value := range map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/keys/root_maxbytes": "25000000",
	} {
		real := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(real); err != nil {
			continue
		}
		shown := filepath.Join(folder, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(shown, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := bind(shown, real); err != nil {
			return err
		}
	}
	return nil
}

// forgetMemory empties what a reboot would find empty.
func forgetMemory(folder string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(table)) {
		point := strings.Fields(line)[4]
		if strings.HasPrefix(point, "/run/") || strings.HasPrefix(point, "/var/lib/kubelet/") {
			points = append(points, point)
		}
	}
	for _, point := range slices.Backward(points) {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("cannot unmount %s: %w", point, err)
		}
	}
	entries, err := os.ReadDir("/run")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join("/run", entry.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(folder, "containerd.sock"))
}

func bind(from, to string) error {
	if err := syscall.Mount(from, to, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot show %s at %s: %w", from, to, err)
	}
	return nil
}
