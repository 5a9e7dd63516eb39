package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// prefix is what the name of every cluster's folder, and of its cgroups, begins with.
const prefix = "postern-cluster-"

// claim makes the folder and locks it: a folder that nobody has locked belongs to nobody.
func claim(folder string) (*os.File, error) {
	if err := os.Mkdir(folder, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.Create(filepath.Join(folder, "lock"))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s is somebody else's: %w", folder, err)
	}
	// Somebody who swept in between took it for a leftover.
	if _, err := os.Stat(lock.Name()); err != nil {
		return nil, err
	}
	for _, sub := range []string{"config", "containerd", "etcd", "kubelet", "log", "once", "pki", "programs", "sysctl", "tmp"} {
		if err := os.Mkdir(filepath.Join(folder, sub), 0o755); err != nil {
			return nil, err
		}
	}
	return lock, nil
}

// sweep removes what clusters have left whose keeper was killed.
func sweep(parent string) {
	folders, _ := filepath.Glob(filepath.Join(parent, prefix+"*"))
	for _, folder := range folders {
		lock, err := os.Open(filepath.Join(folder, "lock"))
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			if removeCgroups(filepath.Base(folder)) == nil {
				_ = os.RemoveAll(folder)
			}
		}
		lock.Close()
	}
}
