package audit

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// line is an event as it stands in the log.
type line struct {
	UserIdentity struct {
		ARN         string `json:"arn"`
		AccessKeyID string `json:"accessKeyId"`
	} `json:"userIdentity"`
	Time              time.Time      `json:"eventTime"`
	Source            Source         `json:"eventSource"`
	Name              string         `json:"eventName"`
	SourceAddress     string         `json:"sourceIPAddress"`
	UserAgent         string         `json:"userAgent"`
	ErrorCode         string         `json:"errorCode"`
	ErrorMessage      string         `json:"errorMessage"`
	RequestParameters map[string]any `json:"requestParameters"`
	ResponseElements  map[string]any `json:"responseElements"`
	RequestID         string         `json:"requestID"`
	EventID           string         `json:"eventID"`
	ReadOnly          bool           `json:"readOnly"`
	Type              string         `json:"eventType"`
	TLS               *TLS           `json:"tlsDetails"`
	Additional        additional     `json:"additionalEventData"`
}

type additional struct {
	Class              string            `json:"class"`
	Decision           Decision          `json:"decision"`
	Statement          string            `json:"statement"`
	UID                int               `json:"uid"`
	GID                int               `json:"gid"`
	PID                int               `json:"pid"`
	Program            string            `json:"program"`
	ProgramBytes       string            `json:"programBytes"`
	ProgramSHA256      string            `json:"programSha256"`
	Via                string            `json:"via"`
	ForwardedBy        string            `json:"forwardedBy"`
	Volume             string            `json:"volume"`
	Zone               uint64            `json:"zone"`
	Path               string            `json:"path"`
	PathBytes          string            `json:"pathBytes"`
	NewPath            string            `json:"newPath"`
	NewPathBytes       string            `json:"newPathBytes"`
	Inode              uint64            `json:"inode"`
	Key                string            `json:"key"`
	KeyVersion         uint32            `json:"keyVersion"`
	MaterialID         string            `json:"keyMaterialId"`
	Context            map[string]string `json:"encryptionContext"`
	DestinationKey     string            `json:"destinationKey"`
	DestinationVersion uint32            `json:"destinationKeyVersion"`
	DestinationContext map[string]string `json:"destinationEncryptionContext"`
	KeyRequestID       string            `json:"keyRequestId"`
	Alert              bool              `json:"alert"`
	Cached             bool              `json:"cached"`
	LatencyMicros      uint32            `json:"latencyMicros"`
	BytesRead          uint64            `json:"bytesRead"`
	BytesWritten       uint64            `json:"bytesWritten"`
	Count              uint64            `json:"count"`
	Detail             string            `json:"detail"`
	Sealed             string            `json:"sealed"`
	Sequence           *uint64           `json:"sequence"`
}

// Parse reads one line of a log. Parameters holds what stands in requestParameters, with what Object says too. ErrEvent for what is not an event.
func Parse(data []byte) (*Event, error) {
	if len(data) > MaxLine {
		return nil, fmt.Errorf("%w: %d bytes", ErrEvent, len(data))
	}
	var l line
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	a := &l.Additional
	e := &Event{Class: parseClass(a.Class), Source: l.Source, Name: l.Name, Time: l.Time, ID: l.EventID, RequestID: l.RequestID, KeyRequestID: a.KeyRequestID,
		ReadOnly: l.ReadOnly, Internal: l.Type == eventType(true),
		Identity: Identity{Principal: l.UserIdentity.ARN, AccessKeyID: l.UserIdentity.AccessKeyID, UID: a.UID, GID: a.GID, PID: a.PID, Program: exact(a.Program, a.ProgramBytes),
			ProgramSHA256: a.ProgramSHA256, Via: a.Via, ForwardedBy: a.ForwardedBy, SourceAddress: l.SourceAddress, UserAgent: l.UserAgent, TLS: l.TLS},
		Object: Object{Key: a.Key, KeyVersion: a.KeyVersion, MaterialID: a.MaterialID, Context: a.Context, DestinationKey: a.DestinationKey,
			DestinationVersion: a.DestinationVersion, DestinationContext: a.DestinationContext, Volume: a.Volume, Zone: a.Zone, Path: exact(a.Path, a.PathBytes),
			NewPath: exact(a.NewPath, a.NewPathBytes), Inode: a.Inode},
		Parameters: l.RequestParameters, Response: l.ResponseElements, Decision: a.Decision, Statement: a.Statement, ErrorCode: l.ErrorCode, ErrorMessage: l.ErrorMessage,
		Detail: a.Detail, Latency: time.Duration(a.LatencyMicros) * time.Microsecond, Alert: a.Alert, Cached: a.Cached, BytesRead: a.BytesRead, BytesWritten: a.BytesWritten, Count: a.Count, Sealed: a.Sealed}
	if e.Class == 0 || e.Name == "" || a.Sequence == nil || e.Decision != Allow && e.Decision != Deny {
		return nil, fmt.Errorf("%w: a member is missing", ErrEvent)
	}
	e.Sequence = *a.Sequence
	return e, nil
}

// exact prefers the exact bytes of a name.
func exact(text, bytes string) string {
	if raw, err := hex.DecodeString(bytes); err == nil && bytes != "" {
		return string(raw)
	}
	return text
}
