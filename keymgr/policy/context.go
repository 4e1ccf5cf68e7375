package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Context holds the values of condition keys that are not read from the Principal or the time of a Request. The zero Context has none. Names of
// keys have no case. A setter panics if there is no such key, if its values are of another type, or if it is read from elsewhere: that is a
// mistake of the program, and a condition that silently misses its key would let a Deny pass. A Context is filled by one goroutine; copies share
// their values.
type Context struct {
	base    *Context // see Over; nil: none
	entries map[string]entry
}

// Over returns a Context that has what base has, until it is set to something else. Base is not changed any more, and may be shared.
func Over(base *Context) Context { return Context{base: base} }

// get finds what is known about a key.
func (c *Context) get(id string) entry {
	for ; c != nil; c = c.base {
		if e, ok := c.entries[id]; ok {
			return e
		}
	}
	return entry{}
}

// usualKeys is about how many keys a request sets.
const usualKeys = 16

func (c *Context) put(id string, e entry) {
	if c.entries == nil {
		c.entries = make(map[string]entry, usualKeys)
	}
	c.entries[id] = e
}

// forget makes all keys absent whose names begin so.
func (c *Context) forget(prefix string) {
	for id := range c.entries {
		if strings.HasPrefix(id, prefix) {
			delete(c.entries, id)
		}
	}
	for base := c.base; base != nil; base = base.base {
		for id := range base.entries {
			if strings.HasPrefix(id, prefix) {
				c.put(id, entry{})
			}
		}
	}
}

// entry is what is known about one key.
type entry struct {
	values     []value
	defaulted  bool // not in the request: the service's default
	incomplete bool // there may be other values
}

// value is one value in the form its type is compared in, and always as text.
type value struct {
	text   string
	number int64
	time   time.Time
	addr   netip.Addr
}

// Text sets a key of text or ARNs: to several values only if the key can have them, or is kmsfs:Path, which has one per link of the file. Without
// values the key is absent; with "" it is there and empty.
func (c *Context) Text(key string, values ...string) {
	var e entry
	for _, v := range values {
		e.values = append(e.values, value{text: v})
	}
	c.set(key, e, textValue, arnValue)
}

// Bool sets a Boolean key.
func (c *Context) Bool(key string, v bool) {
	c.set(key, entry{values: []value{{text: strconv.FormatBool(v)}}}, boolValue)
}

// Number sets a key of numbers, or of seconds since 1970.
func (c *Context) Number(key string, v int64) {
	c.set(key, entry{values: []value{numberOf(v)}}, numberValue, epochValue)
}

// Addr sets a key of IP addresses. An invalid address leaves the key absent.
func (c *Context) Addr(key string, v netip.Addr) {
	var e entry
	if v.IsValid() {
		v = v.Unmap().WithZone("")
		e.values = []value{{text: v.String(), addr: v}}
	}
	c.set(key, e, addrValue)
}

// Digest sets a key of SHA-256 digests, of 32 bytes. A nil digest leaves the key absent.
func (c *Context) Digest(key string, v []byte) {
	var e entry
	if v != nil {
		if len(v) != sha256.Size {
			panic(fmt.Sprintf("policy: condition key %q is a digest of %d bytes", key, sha256.Size))
		}
		e.values = []value{{text: hex.EncodeToString(v)}}
	}
	c.set(key, e, digestValue)
}

// EncryptionContext sets kms:EncryptionContext:NAME for each pair, and kms:EncryptionContextKeys. A condition's NAME has no case: where names
// differ in case only, it sees all their values.
func (c *Context) EncryptionContext(pairs map[string]string) {
	names := c.family("kms:EncryptionContext:", pairs)
	c.Text("kms:EncryptionContextKeys", names...)
}

// RequestTags sets aws:RequestTag/NAME for each tag of the request, and aws:TagKeys.
func (c *Context) RequestTags(tags map[string]string) {
	names := c.family("aws:RequestTag/", tags)
	c.Text("aws:TagKeys", names...)
}

// ResourceTags sets aws:ResourceTag/NAME for each tag of the resource.
func (c *Context) ResourceTags(tags map[string]string) { c.family("aws:ResourceTag/", tags) }

// Defaulted marks a key that has been set as one that the request does not have: its value is the service's default. It is compared, but the
// Null operator finds it absent.
func (c *Context) Defaulted(key string) { c.mark(key, func(e *entry) { e.defaulted = true }) }

// Unknown marks a key, set or not, as one whose values could not all be found out. A condition on it never makes an Allow apply and never keeps
// a Deny from applying, unless the values that are known decide it.
func (c *Context) Unknown(key string) {
	k := settable(key)
	c.mark(key, func(e *entry) {
		e.incomplete = true
		if !k.several() {
			e.values = nil
		}
	})
}

// family sets the keys prefix+name and returns the names, sorted.
func (c *Context) family(prefix string, pairs map[string]string) []string {
	names := make([]string, 0, len(pairs))
	for name := range pairs {
		names = append(names, name)
	}
	sort.Strings(names)
	folded := fold(prefix)
	c.forget(folded)
	for _, name := range names {
		id := folded + fold(name)
		e := c.get(id)
		e.values = append(e.values, value{text: pairs[name]})
		c.put(id, e)
	}
	return names
}

func (c *Context) set(key string, e entry, types ...valueType) {
	k := settable(key)
	ok := false
	for _, t := range types {
		ok = ok || k.typ == t
	}
	if !ok {
		panic(fmt.Sprintf("policy: condition key %q is a %s", key, k.typ))
	}
	if len(e.values) > 1 && !k.several() {
		panic(fmt.Sprintf("policy: condition key %q has one value", key))
	}
	c.put(k.id, e)
}

func (c *Context) mark(key string, change func(*entry)) {
	k := settable(key)
	e := c.get(k.id)
	change(&e)
	c.put(k.id, e)
}

// settable returns the key, which must be one that a Context holds.
func settable(key string) keyRef {
	k, ok := findKey(key)
	if !ok || k.from != fromContext {
		panic(fmt.Sprintf("policy: condition key %q cannot be set", key))
	}
	return k
}

func numberOf(v int64) value {
	return value{text: strconv.FormatInt(v, 10), number: v, time: time.Unix(v, 0)}
}

func textOf(v string) entry {
	if v == "" {
		return entry{}
	}
	return entry{values: []value{{text: v}}}
}

// lookup finds what the request says about a key.
func (r *Request) lookup(k *keyRef) entry {
	p := &r.Principal
	switch k.from {
	case fromARN:
		return p.uncertain(textOf(p.principalARN()))
	case fromAccount:
		return textOf(p.Account)
	case fromPrincipalType:
		return textOf(p.principalType())
	case fromUsername:
		return p.uncertain(textOf(p.username()))
	case fromUserID:
		return textOf(p.userID())
	case fromUID:
		if p.Unix == nil {
			return entry{}
		}
		return entry{values: []value{numberOf(int64(p.Unix.UID))}}
	case fromGroups:
		return p.groups()
	case fromTime:
		return r.now(k.typ)
	}
	return r.Context.get(k.id)
}

// uncertain drops what depends on the name of a user of the host where that is not known.
func (p *Principal) uncertain(e entry) entry {
	if p.Unix != nil && p.Unix.UnresolvedUser {
		return entry{incomplete: true}
	}
	return e
}

func (p *Principal) groups() entry {
	if p.Unix == nil {
		return entry{}
	}
	e := entry{incomplete: p.Unix.UnresolvedGroups}
	for _, g := range p.Unix.Groups {
		e.values = append(e.values, value{text: g})
	}
	return e
}

// now is the time of the request as a date, or as a number.
func (r *Request) now(t valueType) entry {
	if r.Time.IsZero() {
		return entry{}
	}
	v := numberOf(r.Time.Unix())
	if t == dateValue {
		v.text = v.time.UTC().Format(time.RFC3339)
	}
	return entry{values: []value{v}}
}
