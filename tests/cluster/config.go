package main

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

// Every file that a component is configured by, with the places where something is filled in.
//
//go:embed config
var templates embed.FS

// configure writes them, and tells the programs where to put what they would put in /tmp.
func configure(folder string) error {
	plugins, err := pluginFolder()
	if err != nil {
		return err
	}
	all, err := template.ParseFS(templates, "config/*")
	if err != nil {
		return err
	}
	values := map[string]string{
		"Folder": folder, "Name": filepath.Base(folder), "Plugins": plugins, "Node": nodeName, "Address": nodeAddress,
	}
	for _, one := range all.Templates() {
		// Network plugins are looked for in a folder where nothing else is.
		path := filepath.Join(folder, "config", one.Name())
		if filepath.Ext(path) == ".conflist" {
			path = filepath.Join(folder, "config", "network", one.Name())
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		if err := one.Execute(file, values); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return os.Setenv("TMPDIR", filepath.Join(folder, "tmp"))
}

// pluginFolder is where the distribution has the network plugins.
func pluginFolder() (string, error) {
	folders := []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}
	for _, folder := range folders {
		if _, err := os.Stat(filepath.Join(folder, "ptp")); err == nil {
			return folder, nil
		}
	}
	return "", fmt.Errorf("the network plugins (Debian's containernetworking-plugins) are in none of %v", folders)
}
