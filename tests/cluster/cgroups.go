package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cgroupRoots are the mounted hierarchies: one of version 2, or one per controller of version 1, or both.
func cgroupRoots() ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var roots []string
	for line := range strings.Lines(string(table)) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if len(fields) > 4 && strings.HasPrefix(after, "cgroup") {
			roots = append(roots, fields[4])
		}
	}
	return roots, nil
}

// makeCgroups makes the cgroup below which the kubelet has all of its own.
func makeCgroups(name string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		folder := filepath.Join(root, name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			return fmt.Errorf("cannot make a cgroup: %w", err)
		}
		if err := enableControllers(root); err != nil {
			return err
		}
		if err := enableControllers(folder); err != nil {
			return err
		}
	}
	return nil
}

// enableControllers hands all controllers of a version 2 cgroup to its children; version 1 has nothing to enable.
func enableControllers(folder string) error {
	controllers, err := os.ReadFile(filepath.Join(folder, "cgroup.controllers"))
	if err != nil {
		return nil
	}
	for _, controller := range strings.Fields(string(controllers)) {
		err := os.WriteFile(filepath.Join(folder, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
		if err != nil {
			return fmt.Errorf("cannot use the controller %s: %w", controller, err)
		}
	}
	return nil
}

// removeCgroups removes it and all below it, once the processes in there have gone.
func removeCgroups(name string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(20 * time.Second)
	for _, root := range roots {
		for err = removeTree(filepath.Join(root, name)); err != nil; err = removeTree(filepath.Join(root, name)) {
			if time.Now().After(deadline) {
				return fmt.Errorf("a cgroup cannot be removed: %w", err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// removeTree removes a cgroup from the leaves up; the files in it are the kernel's and go with it.
func removeTree(folder string) error {
	var folders []string
	_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			folders = append(folders, path)
		}
		return nil
	})
	for _, path := range slices.Backward(folders) {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
