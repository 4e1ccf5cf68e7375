package sink

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"time"
)

// datagram is a socket to which one event is one datagram; it is opened when it is needed, and again after an error.
type datagram struct {
	path string
	conn *net.UnixConn
}

func (d *datagram) send(ctx context.Context, p []byte) error {
	if d.conn == nil {
		c, err := new(net.Dialer).DialContext(ctx, "unixgram", d.path)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", d.path, err)
		}
		d.conn = c.(*net.UnixConn)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := d.conn.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := d.conn.Write(p); err != nil {
		_ = d.close()
		return fmt.Errorf("write to %s: %w", d.path, err)
	}
	return nil
}

func (d *datagram) close() error {
	if d.conn == nil {
		return nil
	}
	err := d.conn.Close()
	d.conn = nil
	return err
}

// syslog sends events to a local syslog daemon (RFC 3164's form, as /dev/log takes it), facility authpriv, severity notice.
type syslog struct {
	path string
	d    datagram
}

const priority = 10<<3 | 5

func (s *syslog) Send(ctx context.Context, lines [][]byte) error {
	s.d.path = s.path
	for _, line := range lines {
		head := fmt.Sprintf("<%d>%s kmsfs[%d]: ", priority, time.Now().Format(time.Stamp), os.Getpid())
		if err := s.d.send(ctx, append([]byte(head), line...)); err != nil {
			return err
		}
	}
	return nil
}

func (s *syslog) Close() error { return s.d.close() }

// journal sends events to systemd's journal in its native protocol.
type journal struct{ datagram }

func (j *journal) Send(ctx context.Context, lines [][]byte) error {
	for _, line := range lines {
		b := []byte("SYSLOG_IDENTIFIER=kmsfs\nPRIORITY=5\nMESSAGE\n")
		b = binary.LittleEndian.AppendUint64(b, uint64(len(line)))
		if err := j.send(ctx, append(append(b, line...), '\n')); err != nil {
			return err
		}
	}
	return nil
}

func (j *journal) Close() error { return j.close() }
