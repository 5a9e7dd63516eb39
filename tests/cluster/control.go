package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
)

// serve obeys what comes over a socket, one line at a time: `stop kubelet` is answered by `ok`, or by why not.
func (n *node) serve(path string) error {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	var one sync.Mutex
	go func() {
		for {
			owner, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer owner.Close()
				lines := bufio.NewScanner(owner)
				for lines.Scan() {
					one.Lock()
					answer := "ok"
					if err := n.obey(lines.Text()); err != nil {
						answer = err.Error()
					}
					one.Unlock()
					fmt.Fprintln(owner, strings.ReplaceAll(answer, "\n", "\\n"))
				}
			}()
		}
	}()
	return nil
}

func (n *node) obey(line string) error {
	verb, name, _ := strings.Cut(line, " ")
	switch verb {
	case "start":
		return n.start(name)
	case "stop":
		return n.end(name, syscall.SIGTERM)
	case "kill":
		return n.end(name, syscall.SIGKILL)
	case "freeze":
		return n.signal(name, syscall.SIGSTOP)
	case "thaw":
		return n.signal(name, syscall.SIGCONT)
	case "restart":
		return n.restart()
	default:
		return fmt.Errorf("there is no verb %q", verb)
	}
}
