package control

import "encoding/json"

const (
	maxRequest = 64 << 10
	maxLine    = 1 << 20
)

// request is the one line a client sends.
type request struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

// message is a line of the answer; exactly one field is set. Error and Result end the answer.
type message struct {
	Event  json.RawMessage `json:"event,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Failure        `json:"error,omitempty"`
}
