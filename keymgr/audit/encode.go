package audit

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What stands in every event.
const (
	version = "1.11"
	region  = "local"
	account = "000000000000"
)

// TimeFormat is how times are written: UTC, in microseconds.
const TimeFormat = "2006-01-02T15:04:05.000000Z"

// MaxEvent bounds an encoded event, in bytes. The largest has two encryption contexts and a policy.
const MaxEvent = 256 << 10

// MaxLine bounds a line: one that is sealed, in base64, with what stands around it.
const MaxLine = MaxEvent/3*4 + 4096

// Append writes e as one line of JSON without its end: two braces and the sequence number (AppendSequence) are missing, because the number is known only when the event's
// place is. ErrEvent if a parameter does not marshal or the event is too long.
func (e *Event) Append(b []byte) ([]byte, error) {
	w := writer{b: b}
	return e.append(&w)
}

func (e *Event) append(w *writer) ([]byte, error) {
	b := w.b
	start := len(b)
	w.b = append(b, '{')
	w.text("eventVersion", version)
	w.identity(e)
	w.name("eventTime")
	w.mark(timeBegins)
	w.b = appendTime(w.b, e.Time)
	w.mark(timeEnds)
	w.text("eventSource", string(e.Source))
	w.text("eventName", e.Name)
	w.text("awsRegion", region)
	w.optional("sourceIPAddress", e.SourceAddress)
	w.optional("userAgent", e.UserAgent)
	w.optional("errorCode", e.ErrorCode)
	w.optional("errorMessage", e.ErrorMessage)
	w.parameters(e)
	w.value("responseElements", e.Response)
	w.optional("requestID", e.RequestID)
	w.name("eventID")
	w.mark(idBegins)
	w.b = AppendString(w.b, e.ID)
	w.mark(idEnds)
	w.flag("readOnly", e.ReadOnly)
	w.resources(e)
	w.text("eventType", eventType(e.Internal))
	w.flag("managementEvent", e.Source == Keys)
	w.text("recipientAccountId", account)
	w.text("eventCategory", category(e.Source))
	w.tls(e.TLS)
	w.additional(e)
	if w.err != nil {
		return b, w.err
	}
	if len(w.b)-start > MaxEvent && (e.Sealed == "" || len(w.b)-start > MaxLine-64) {
		return b, fmt.Errorf("%w: %d bytes, allowed are %d", ErrEvent, len(w.b)-start, MaxEvent)
	}
	return w.b, nil
}

// AppendSequence ends an event begun by Append.
func AppendSequence(b []byte, sequence uint64) []byte {
	b = append(b, `"sequence":`...)
	return append(strconv.AppendUint(b, sequence, 10), "}}"...)
}

func eventType(internal bool) string {
	if internal {
		return "AwsServiceEvent"
	}
	return "AwsApiCall"
}

func category(s Source) string {
	if s == Keys {
		return "Management"
	}
	return "Data"
}

// writer appends members of JSON objects.
type writer struct {
	b     []byte
	err   error
	marks [marks]int // where in b what differs between events that are alike begins and ends
}

func (w *writer) mark(m mark) { w.marks[m] = len(w.b) }

// name begins a member.
func (w *writer) name(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(append(append(w.b, '"'), name...), `":`...)
}

func (w *writer) text(name, v string) {
	w.name(name)
	w.b = AppendString(w.b, v)
}

func (w *writer) optional(name, v string) {
	if v != "" {
		w.text(name, v)
	}
}

func (w *writer) tls(t *TLS) {
	if t == nil {
		return
	}
	w.name("tlsDetails")
	w.b = append(w.b, '{')
	w.optional("tlsVersion", t.Version)
	w.optional("cipherSuite", t.Suite)
	w.optional("clientProvidedHostHeader", t.Host)
	w.b = append(w.b, '}')
}

func (w *writer) number(name string, v uint64) {
	if v != 0 {
		w.name(name)
		w.b = strconv.AppendUint(w.b, v, 10)
	}
}

func (w *writer) flag(name string, v bool) {
	w.name(name)
	w.b = strconv.AppendBool(w.b, v)
}

func (w *writer) set(name string) {
	w.name(name)
	w.b = append(w.b, '{')
}

func (w *writer) end() { w.b = append(w.b, '}') }

// value writes a map, null where it is empty, as CloudTrail does.
func (w *writer) value(name string, v map[string]any) {
	w.name(name)
	if len(v) == 0 {
		w.b = append(w.b, "null"...)
		return
	}
	data, err := json.Marshal(v)
	if err != nil {
		w.err = fmt.Errorf("%w: %s: %w", ErrEvent, name, err)
		return
	}
	w.b = append(w.b, data...)
}

// any writes a value: itself where it is one of those that every call has, by encoding/json otherwise.
func (w *writer) any(where string, v any) {
	switch v := v.(type) {
	case string:
		w.b = AppendString(w.b, v)
		return
	case int:
		w.b = strconv.AppendInt(w.b, int64(v), 10)
		return
	}
	data, err := json.Marshal(v)
	if err != nil {
		w.err = fmt.Errorf("%w: %s: %w", ErrEvent, where, err)
		return
	}
	w.b = append(w.b, data...)
}

// pairs writes an encryption context, sorted.
func (w *writer) pairs(name string, c map[string]string) {
	if len(c) == 0 {
		return
	}
	w.set(name)
	for _, k := range slices.Sorted(maps.Keys(c)) {
		if w.b[len(w.b)-1] != '{' {
			w.b = append(w.b, ',')
		}
		w.b = append(AppendString(w.b, k), ':')
		w.b = AppendString(w.b, c[k])
	}
	w.end()
}

// path writes what the kernel calls a name: bytes. Those that are not UTF-8 are written once more, exactly.
func (w *writer) path(name, v string) {
	w.optional(name, v)
	if !utf8.ValidString(v) {
		w.text(name+"Bytes", hex.EncodeToString([]byte(v)))
	}
}

func (w *writer) identity(e *Event) {
	w.set("userIdentity")
	switch {
	case e.Internal:
		w.text("accountId", account)
		w.text("invokedBy", "AWS Internal")
	default:
		w.text("type", identityType(e.Principal))
		w.optional("principalId", e.Principal)
		w.optional("arn", e.Principal)
		w.text("accountId", account)
		w.optional("accessKeyId", e.AccessKeyID)
		if _, name, ok := strings.Cut(e.Principal, ":user/"); ok {
			w.text("userName", name)
		}
		w.optional("invokedBy", e.Via)
	}
	w.end()
}

func identityType(arn string) string {
	switch {
	case strings.HasSuffix(arn, ":root"):
		return "Root"
	case strings.Contains(arn, ":assumed-role/"):
		return "AssumedRole"
	case strings.Contains(arn, ":user/"):
		return "IAMUser"
	case arn == "":
		return "Unknown"
	}
	return "AWSAccount" // a user of the host: of the account, but none of its identities
}

func (w *writer) parameters(e *Event) {
	if len(e.Parameters) == 0 && len(e.Context) == 0 && e.Key == "" {
		w.name("requestParameters")
		w.b = append(w.b, "null"...)
		return
	}
	w.set("requestParameters")
	if _, given := e.Parameters["keyId"]; !given && e.DestinationKey == "" {
		w.optional("keyId", e.Key)
	}
	if e.DestinationKey == "" {
		w.pairs("encryptionContext", e.Context)
	} else {
		w.pairs("sourceEncryptionContext", e.Context)
		w.optional("sourceKeyId", e.Key)
		w.optional("destinationKeyId", e.DestinationKey)
		w.pairs("destinationEncryptionContext", e.DestinationContext)
	}
	for _, k := range slices.Sorted(maps.Keys(e.Parameters)) {
		if w.b[len(w.b)-1] != '{' {
			w.b = append(w.b, ',')
		}
		w.b = append(AppendString(w.b, k), ':')
		w.any("requestParameters."+k, e.Parameters[k])
	}
	w.end()
}

func (w *writer) resources(e *Event) {
	w.name("resources")
	w.b = append(w.b, '[')
	for _, arn := range []string{e.Key, e.DestinationKey} {
		if !strings.HasPrefix(arn, "arn:") {
			continue
		}
		if w.b[len(w.b)-1] != '[' {
			w.b = append(w.b, ',')
		}
		w.b = append(w.b, '{')
		w.text("accountId", account)
		w.text("type", "AWS::KMS::Key")
		w.text("ARN", arn)
		w.end()
	}
	w.b = append(w.b, ']')
}

func appendInt(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) }

func (w *writer) place(e *Event) {
	w.path("path", e.Path)
	w.path("newPath", e.NewPath)
	w.number("inode", e.Inode)
}

func (w *writer) latency(e *Event) {
	w.number("latencyMicros", uint64(max(e.Latency, 0)/time.Microsecond))
}

// additional writes additionalEventData up to its last member.
func (w *writer) additional(e *Event) {
	w.set("additionalEventData")
	w.text("class", e.Class.String())
	w.text("decision", string(e.Decision))
	w.optional("statement", e.Statement)
	w.optional("principal", e.Principal)
	for _, n := range []struct {
		name string
		v    int
	}{{"uid", e.UID}, {"gid", e.GID}} {
		w.name(n.name)
		w.b = appendInt(w.b, n.v)
	}
	w.name("pid")
	w.mark(pidBegins)
	w.b = appendInt(w.b, e.PID)
	w.mark(pidEnds)
	w.path("program", e.Program)
	w.optional("programSha256", e.ProgramSHA256)
	w.optional("via", e.Via)
	w.optional("forwardedBy", e.ForwardedBy)
	w.optional("volume", e.Volume)
	w.number("zone", e.Zone)
	w.mark(placeBegins)
	w.place(e)
	w.mark(placeEnds)
	w.optional("key", e.Key)
	w.number("keyVersion", uint64(e.KeyVersion))
	w.optional("keyMaterialId", e.MaterialID)
	w.pairs("encryptionContext", e.Context)
	w.optional("destinationKey", e.DestinationKey)
	w.number("destinationKeyVersion", uint64(e.DestinationVersion))
	w.pairs("destinationEncryptionContext", e.DestinationContext)
	w.optional("keyRequestId", e.KeyRequestID)
	if e.Alert {
		w.flag("alert", true)
	}
	if e.Cached {
		w.flag("cached", true)
	}
	w.mark(latencyBegins)
	w.latency(e)
	w.mark(latencyEnds)
	w.number("bytesRead", e.BytesRead)
	w.number("bytesWritten", e.BytesWritten)
	w.number("count", e.Count)
	w.optional("detail", e.Detail)
	w.optional("sealed", e.Sealed)
	w.b = append(w.b, ',')
}

// plain is how many bytes at the beginning of s, in steps of eight, stand for themselves.
func plain(s string) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	zero := func(x uint64) uint64 { return (x - ones) &^ x & tops } // a top bit for a byte that is zero; beyond the first such byte, perhaps for others
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		t := s[i : i+8]
		x := uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 | uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56
		if x&tops|(x-0x20*ones)&^x&tops|zero(x^'"'*ones)|zero(x^'\\'*ones)|zero(x^0x7f*ones) != 0 {
			break
		}
	}
	return i
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string, as it stands in events. What is not UTF-8 becomes U+FFFD. Control characters are escaped, so that a line is one line, and U+2028, U+2029 and DEL, so that it is one
// on every terminal.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := plain(s); i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf-1 && c != '"' && c != '\\' {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(append(b, s[start:i]...), '\\')
			if c == '"' || c == '\\' {
				b = append(b, c)
			} else {
				b = append(b, 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(append(b, s[start:i]...), "\ufffd"...)
		case r == 0x2028 || r == 0x2029 || r >= 0x80 && r < 0xa0:
			b = append(append(b, s[start:i]...), '\\', 'u', hexDigits[r>>12], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
		default:
			i += size
			continue
		}
		i += size
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
