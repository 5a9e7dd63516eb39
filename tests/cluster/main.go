// Program cluster keeps a Kubernetes of one node, in namespaces of its own, for as long as whoever started it lives.
//
//	cluster keep FOLDER [IMAGE...]
//
// makes FOLDER, starts every component, loads the image archives and says "ready" on its standard output. When its
// standard input ends, which is also what the end of its owner looks like, it takes everything down again and leaves no
// process, mount, cgroup or file. The components are other programs of this module, beside this one.
//
// Read on in keep.go (outside the namespaces), then node.go (process 1 inside them).
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: cluster keep FOLDER [IMAGE...]")
		os.Exit(2)
	}
	folder, images := os.Args[2], os.Args[3:]
	// The tools of administrators are not on everybody's path.
	err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/usr/bin:/sbin:/bin")
	if err != nil {
		say("failed: %v", err)
		os.Exit(1)
	}
	switch os.Args[1] {
	case "keep":
		err = keep(folder, images)
	case "node":
		err = runNode(folder, images)
	default:
		err = fmt.Errorf("there is no %q", os.Args[1])
	}
	if err != nil {
		say("failed: %v", err)
		os.Exit(1)
	}
}

// say tells the owner one thing; an owner that has gone hears nothing, and that is no error.
func say(format string, arguments ...any) {
	_, _ = fmt.Printf(format+"\n", arguments...)
}
