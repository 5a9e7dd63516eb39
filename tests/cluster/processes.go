package main

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// process is one child.
type process struct {
	pid    int
	ended  chan struct{}      // closed when it has
	status syscall.WaitStatus // from then on
}

// processes are our children. Process 1 also inherits every orphan and has to collect it, so it waits for all of them
// in one place.
type processes struct {
	mutex   sync.Mutex
	running map[int]*process
}

func newProcesses() *processes {
	p := &processes{running: map[int]*process{}}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		for range ended {
			p.collect()
		}
	}()
	return p
}

func (p *processes) collect() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		p.mutex.Lock()
		if child, ours := p.running[pid]; ours {
			delete(p.running, pid)
			child.status = status
			close(child.ended)
		}
		p.mutex.Unlock()
	}
}

// start runs a program whose output goes to the end of a log.
func (p *processes) start(words []string, log string) (*process, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	empty, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer empty.Close()
	// Until it is noted down nobody may collect it.
	p.mutex.Lock()
	defer p.mutex.Unlock()
	pid, err := syscall.ForkExec(words[0], words, &syscall.ProcAttr{
		Dir:   "/",
		Env:   os.Environ(),
		Files: []uintptr{empty.Fd(), output.Fd(), output.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", words[0], err)
	}
	child := &process{pid: pid, ended: make(chan struct{})}
	p.running[pid] = child
	return child, nil
}

// run waits until the program has ended, and fails if it did.
func (p *processes) run(words []string, log string) error {
	child, err := p.start(words, log)
	if err != nil {
		return err
	}
	<-child.ended
	if child.status != 0 {
		return fmt.Errorf("%s %s; its log ends:\n%s", words[0], describe(child.status), tail(log))
	}
	return nil
}

// killStrangers kills every process but process 1 and those that we have started, and waits until they are gone.
func (p *processes) killStrangers() error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		strangers, err := p.strangers()
		if err != nil || len(strangers) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the processes %v do not end", strangers)
		}
		for _, pid := range strangers {
			// It may have ended by itself.
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func (p *processes) strangers() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	var strangers []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == 1 {
			continue
		}
		if _, ours := p.running[pid]; !ours {
			strangers = append(strangers, pid)
		}
	}
	return strangers, nil
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "was ended by the signal " + status.Signal().String()
	}
	return fmt.Sprintf("ended with exit status %d", status.ExitStatus())
}

// tail is the end of a log: its last lines, without the noise in between.
func tail(log string) string {
	content, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	content = content[max(0, len(content)-3000):]
	if line := slices.Index(content, '\n'); line >= 0 && len(content) == 3000 {
		content = content[line+1:]
	}
	return string(content)
}
