package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Do asks the daemon at path for op and decodes its answer into result (nil: not wanted). onEvent, if not nil, is called for each event in order;
// an error of it ends the call. It blocks until the answer is there or ctx ends. Errors: ErrNobody, ErrPeer, ErrProtocol, a *Failure the daemon
// answered, what onEvent returned, ctx's.
func Do(ctx context.Context, path, op string, args any, onEvent func(json.RawMessage) error, result any) error {
	conn, err := dial(ctx, path)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := send(conn, op, args); err != nil {
		return err
	}
	err = receive(conn, onEvent, result)
	if ctx.Err() != nil {
		return fmt.Errorf("ask daemon for %s: %w", op, ctx.Err())
	}
	return err
}

func dial(ctx context.Context, path string) (*net.UnixConn, error) {
	short, done, err := shortPath(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w at %s", ErrNobody, path)
		}
		return nil, err
	}
	defer done()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", short)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%w at %s", ErrNobody, path)
		}
		return nil, fmt.Errorf("connect to daemon at %s: %w", path, err)
	}
	conn := c.(*net.UnixConn)
	peer, err := peerOf(conn)
	if err == nil && !peer.believes() {
		err = fmt.Errorf("%w (uid %d) at %s", ErrPeer, peer.UID, path)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func send(conn net.Conn, op string, args any) error {
	req := request{Op: op}
	if args != nil {
		raw, err := json.Marshal(args)
		if err != nil {
			return fmt.Errorf("encode control request: %w", err)
		}
		req.Args = raw
	}
	line, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode control request: %w", err)
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("send control request: %w", err)
	}
	return nil
}

func receive(conn net.Conn, onEvent func(json.RawMessage) error, result any) error {
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 4096), maxLine)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("%w: %v", ErrProtocol, err)
		}
		switch {
		case m.Error != nil:
			return m.Error
		case m.Event != nil:
			if onEvent == nil {
				continue
			}
			if err := onEvent(m.Event); err != nil {
				return err
			}
		default:
			if result == nil {
				return nil
			}
			if err := json.Unmarshal(m.Result, result); err != nil {
				return fmt.Errorf("%w: %v", ErrProtocol, err)
			}
			return nil
		}
	}
	err := lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: the daemon hung up: %v", ErrNobody, err)
}
