package mount

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// reapWait is how long a process that closed its end of the pipe may take to be gone.
const reapWait = 2 * time.Second

// child is a process that was started and may end at any time.
type child struct {
	pid   int
	ended chan error // what Wait said
	log   string     // path
	from  int64      // where in its log its own lines begin
}

// watch waits for the process in the background: no zombie, should this one live on.
func watch(cmd *exec.Cmd, log *os.File) *child {
	c := &child{pid: cmd.Process.Pid, ended: make(chan error, 1), log: log.Name()}
	go func() { c.ended <- cmd.Wait() }()
	return c
}

// died is the error for a process that said nothing: how it ended, and its last words.
func (c *child) died(cause error) error {
	how := "says nothing"
	select {
	case err := <-c.ended:
		how = "ended by itself"
		if err != nil {
			how = "ended with " + err.Error()
		}
		if words := c.lastWords(); words != "" {
			how += ": " + words
		}
	case <-time.After(reapWait):
	}
	if errors.Is(cause, io.EOF) {
		return advise(fmt.Errorf("%w: process %d %s", ErrDaemon, c.pid, how), "its log is %s", c.log)
	}
	return advise(fmt.Errorf("%w: process %d %s: %w", ErrDaemon, c.pid, how, cause), "its log is %s", c.log)
}

// maxWords bounds what is repeated of a log, in bytes.
const maxWords = 300

// lastWords returns the line of the process's log that says why it ended: that of a panic, or else the last one.
func (c *child) lastWords() string {
	f, err := os.Open(c.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.NewSectionReader(f, c.from, 1<<20))
	words := ""
	for line := range bytes.Lines(b) {
		text := strings.TrimSpace(string(line))
		if strings.HasPrefix(text, "panic:") || strings.HasPrefix(text, "fatal error:") {
			words = text
			break
		}
		if text != "" {
			words = text
		}
	}
	return strings.ToValidUTF8(words[:min(len(words), maxWords)], "?")
}
