package kms

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

// groupLog appends records to a file and makes them durable, all that wait by one write and one fdatasync: what the audit log must do at least for each call, and nothing else.
type groupLog struct {
	f     *os.File
	end   int64 // of the records
	room  int64 // of the file: zeros lie behind the records, so that a flush has no metadata to write
	queue chan chan error
}

// recordSize is about as long as the record of a GenerateDataKey, in bytes.
const recordSize = 1400

func newGroupLog(path string) (*groupLog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	g := &groupLog{f: f, queue: make(chan chan error, workers)}
	go g.write()
	return g, nil
}

// append returns when a record is on disk.
func (g *groupLog) append() error {
	done := make(chan error, 1)
	g.queue <- done
	return <-done
}

func (g *groupLog) write() {
	record := bytes.Repeat([]byte("r"), recordSize)
	for first := range g.queue {
		group := []chan error{first}
		for len(g.queue) > 0 {
			group = append(group, <-g.queue)
		}
		err := g.put(bytes.Repeat(record, len(group)))
		for _, done := range group {
			done <- err
		}
	}
}

func (g *groupLog) put(p []byte) error {
	const ahead = 512 << 10
	if g.end+int64(len(p)) > g.room {
		if _, err := g.f.WriteAt(make([]byte, int64(len(p))+ahead), g.end); err != nil {
			return err
		}
		g.room = g.end + int64(len(p)) + ahead
	}
	if _, err := g.f.WriteAt(p, g.end); err != nil {
		return err
	}
	g.end += int64(len(p))
	return unix.Fdatasync(int(g.f.Fd()))
}
