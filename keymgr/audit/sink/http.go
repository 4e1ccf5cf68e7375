package sink

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// collector posts events to an HTTP server: JSON lines, application/x-ndjson. An answer of 2xx says that it has them all. A batch whose answer was lost is sent again: eventID tells
// events apart.
type collector struct {
	url    string
	client *http.Client
}

func newCollector(url string) *collector {
	return &collector{url, &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // events go where they were told to
	}}
}

func (c *collector) Send(ctx context.Context, lines [][]byte) error {
	body := append(bytes.Join(lines, []byte{'\n'}), '\n')
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answers %s", resp.Status)
	}
	return nil
}

func (c *collector) Close() error {
	c.client.CloseIdleConnections()
	return nil
}
