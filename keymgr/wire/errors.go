package wire

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/kmsfs/kmsfs/keymgr"
)

// errorBody is the body of an answer that is an error. AWS' clients read the code from __type; a few of AWS' own errors have no message.
type errorBody struct {
	Type    string `json:"__type"`
	Message string `json:"message,omitempty"`
}

// EncodeError returns HTTP status and body for an error. AWS answers every fault of the caller with 400; 5xx, which clients try again, is for what may pass.
func EncodeError(err error) (status int, body []byte) {
	status = http.StatusBadRequest
	switch code := keymgr.Code(err); code {
	case keymgr.Code(keymgr.ErrInternal), keymgr.Code(keymgr.ErrKeyUnavailable):
		status = http.StatusInternalServerError
	case keymgr.Code(keymgr.ErrDependencyTimeout):
		status = http.StatusServiceUnavailable
	}
	body, merr := json.Marshal(errorBody{Type: keymgr.Code(err), Message: keymgr.Message(err)})
	if merr != nil { // strings always marshal
		body = []byte(`{"__type":"KMSInternalException"}`)
	}
	return status, body
}

// DecodeError is the inverse: the error for an answer whose status is not 200.
func DecodeError(status int, body []byte) error {
	var e struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if err := Decode(body, &e); err != nil || e.Type == "" {
		return &keymgr.Fault{Class: keymgr.ErrInternal, Message: "the key manager answered " + http.StatusText(status),
			Cause: errors.New("no error code in the answer")}
	}
	return keymgr.FromCode(e.Type, e.Message)
}
