package localhttp

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// response implements http.ResponseWriter. The answer is sent, and its copy wiped, when the handler has returned.
type response struct {
	c      *conn
	header http.Header
	body   *body // of the request; nil: it is not one
	status int
	last   bool // the connection is closed behind it
}

var errAnswered = errors.New("an answer is written at once")

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write takes the whole body of the answer.
func (w *response) Write(p []byte) (int, error) {
	if len(w.c.out) > 0 {
		return 0, errAnswered
	}
	w.compose(len(p))
	w.c.out = append(w.c.out, p...)
	return len(p), nil
}

// compose puts the status line and header of an answer together, whose body has so many bytes.
func (w *response) compose(length int) {
	w.WriteHeader(http.StatusOK)
	w.last = w.last || w.header.Get("Connection") == "close" || w.body != nil && !w.body.drained()
	b := append(w.c.out, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	b = append(append(append(b, ' '), http.StatusText(w.status)...), "\r\nDate: "...)
	b = append(append(b, w.c.server.now()...), "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(length), 10)
	for name, values := range w.header {
		if name == "Connection" || name == "Content-Length" {
			continue
		}
		for _, v := range values {
			b = append(append(append(b, "\r\n"...), name...), ": "...)
			b = append(b, oneLine(v)...)
		}
	}
	if w.last {
		b = append(b, "\r\nConnection: close"...)
	}
	w.c.out = append(b, "\r\n\r\n"...)
}

// oneLine keeps a value from ending its line.
func oneLine(v string) string {
	if !strings.ContainsAny(v, "\r\n") {
		return v
	}
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(v)
}

// keptOutput is the largest buffer that a connection keeps, in bytes.
const keptOutput = 16 << 10

// send sends the answer, and wipes it.
func (w *response) send() error {
	c := w.c
	if len(c.out) == 0 {
		w.compose(0)
	}
	err := c.write(c.out)
	clear(c.out)
	if c.out = c.out[:0]; cap(c.out) > keptOutput {
		c.out = nil
	}
	return err
}
