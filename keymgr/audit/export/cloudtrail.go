package export

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
)

// What stands in names and digests. The names must stay as they are written: a digest says where it lies.
const (
	Account   = "000000000000"
	Region    = "local"
	TrailName = "kmsfs"
)

// Limits of an export.
const (
	maxFileEvents = 50_000
	maxHours      = 24 * 366 * 20
)

const (
	stamp     = "20060102T150405Z"
	shortTime = "20060102T1504Z"
	eventTime = "2006-01-02T15:04:05Z"
)

// ErrSpan: the events span more time than an export of signed hours makes sense for; the clock was wrong.
var ErrSpan = errors.New("events span too much time; use --since and --until")

// CloudTrail writes events as a bucket of CloudTrail's in a directory: log files by the hour, and for each hour, from the first event's to the last one's, a signed digest that
// names its log files by their hash and the digest before it. A digest's signature lies beside it (NAME.metadata.json), where S3 would have the object's metadata.
type CloudTrail struct {
	dir, bucket string
	key         *rsa.PrivateKey
	fingerprint string

	hour   time.Time // of the events collected
	stream string
	events [][]byte
	from   time.Time
	to     time.Time
	files  map[time.Time][]logFile
	count  int
}

// logFile is an entry of a digest.
type logFile struct {
	Bucket string `json:"s3Bucket"`
	Object string `json:"s3Object"`
	Hash   string `json:"hashValue"`
	Method string `json:"hashAlgorithm"`
	Newest string `json:"newestEventTime"`
	Oldest string `json:"oldestEventTime"`
}

// digest is a digest file.
type digest struct {
	Account           string    `json:"awsAccountId"`
	Start             string    `json:"digestStartTime"`
	End               string    `json:"digestEndTime"`
	Bucket            string    `json:"digestS3Bucket"`
	Object            string    `json:"digestS3Object"`
	Fingerprint       string    `json:"digestPublicKeyFingerprint"`
	Algorithm         string    `json:"digestSignatureAlgorithm"`
	Newest            *string   `json:"newestEventTime"`
	Oldest            *string   `json:"oldestEventTime"`
	PreviousBucket    *string   `json:"previousDigestS3Bucket"`
	PreviousObject    *string   `json:"previousDigestS3Object"`
	PreviousHash      *string   `json:"previousDigestHashValue"`
	PreviousMethod    *string   `json:"previousDigestHashAlgorithm"`
	PreviousSignature *string   `json:"previousDigestSignature"`
	LogFiles          []logFile `json:"logFiles"`
}

// NewCloudTrail begins an export into dir/bucket, which must not be there yet. key signs the digests; its public part is written beside the bucket, as public-key.json.
func NewCloudTrail(dir, bucket string, key *rsa.PrivateKey) (*CloudTrail, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, bucket), 0o700); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	der := x509.MarshalPKCS1PublicKey(&key.PublicKey)
	sum := sha256.Sum256(der)
	c := &CloudTrail{dir: dir, bucket: bucket, key: key, fingerprint: hex.EncodeToString(sum[:16]), files: map[time.Time][]logFile{}}
	public, err := json.MarshalIndent(map[string]string{"Fingerprint": c.fingerprint, "Value": base64.StdEncoding.EncodeToString(der)}, "", "  ")
	if err != nil {
		return nil, err
	}
	return c, os.WriteFile(filepath.Join(dir, "public-key.json"), append(public, '\n'), 0o600)
}

// Write implements Writer.
func (c *CloudTrail) Write(f trail.Found) error {
	hour := f.Event.Time.UTC().Truncate(time.Hour)
	if f.Stream != c.stream || !hour.Equal(c.hour) || len(c.events) >= maxFileEvents {
		if err := c.flush(); err != nil {
			return err
		}
		c.stream, c.hour, c.from, c.to = f.Stream, hour, f.Event.Time, f.Event.Time
	}
	if f.Event.Time.Before(c.from) {
		c.from = f.Event.Time
	}
	if f.Event.Time.After(c.to) {
		c.to = f.Event.Time
	}
	c.events = append(c.events, wholeSeconds(f))
	return nil
}

// wholeSeconds is the event with its time as CloudTrail writes it.
func wholeSeconds(f trail.Found) []byte {
	t := f.Event.Time.UTC()
	return bytes.Replace(f.Line, []byte(`"eventTime":"`+t.Format(audit.TimeFormat)+`"`), []byte(`"eventTime":"`+t.Format(eventTime)+`"`), 1)
}

// flush writes the log file of the events collected.
func (c *CloudTrail) flush() error {
	if len(c.events) == 0 {
		return nil
	}
	c.count++
	object := path.Join("AWSLogs", Account, "CloudTrail", Region, c.hour.Format("2006/01/02"),
		fmt.Sprintf("%s_CloudTrail_%s_%s_%016d.json.gz", Account, Region, c.hour.Add(time.Hour).Format(shortTime), c.count))
	body := append([]byte(`{"Records":[`), bytes.Join(c.events, []byte{','})...)
	body = append(body, "]}"...)
	c.events = nil
	if err := c.put(object, body); err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	c.files[c.hour] = append(c.files[c.hour], logFile{c.bucket, object, hex.EncodeToString(sum[:]), "SHA-256", c.to.UTC().Format(eventTime), c.from.UTC().Format(eventTime)})
	return nil
}

// put writes an object, compressed.
func (c *CloudTrail) put(object string, body []byte) error {
	name := filepath.Join(c.dir, c.bucket, filepath.FromSlash(object))
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(body)
	if err = errors.Join(err, z.Close()); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o600)
}

// Close writes the digests.
func (c *CloudTrail) Close() error {
	if err := c.flush(); err != nil {
		return err
	}
	var hours []time.Time
	for h := range c.files {
		hours = append(hours, h)
	}
	if len(hours) == 0 {
		return nil
	}
	slices.SortFunc(hours, time.Time.Compare)
	first, last := hours[0], hours[len(hours)-1]
	if last.Sub(first) > maxHours*time.Hour {
		return fmt.Errorf("%w: from %s to %s", ErrSpan, first.Format(eventTime), last.Format(eventTime))
	}
	var previous *digest
	var hash, signature string
	for h := first; !h.After(last); h = h.Add(time.Hour) {
		d := c.digestOf(h)
		if previous != nil {
			method := "SHA-256"
			before, sig := hash, signature
			d.PreviousBucket, d.PreviousObject, d.PreviousHash, d.PreviousMethod, d.PreviousSignature = &previous.Bucket, &previous.Object, &before, &method, &sig
		}
		var err error
		if hash, signature, err = c.sign(d); err != nil {
			return err
		}
		previous = d
	}
	return nil
}

func (c *CloudTrail) digestOf(hour time.Time) *digest {
	end := hour.Add(time.Hour)
	d := &digest{Account: Account, Start: hour.Format(eventTime), End: end.Format(eventTime), Bucket: c.bucket, Fingerprint: c.fingerprint, Algorithm: "SHA256withRSA",
		LogFiles: c.files[hour],
		Object: path.Join("AWSLogs", Account, "CloudTrail-Digest", Region, end.Format("2006/01/02"),
			fmt.Sprintf("%s_CloudTrail-Digest_%s_%s_%s_%s.json.gz", Account, Region, TrailName, Region, end.Format(stamp)))}
	if d.LogFiles == nil {
		d.LogFiles = []logFile{}
	}
	for i := range d.LogFiles {
		f := &d.LogFiles[i]
		if d.Newest == nil || f.Newest > *d.Newest {
			d.Newest = &f.Newest
		}
		if d.Oldest == nil || f.Oldest < *d.Oldest {
			d.Oldest = &f.Oldest
		}
	}
	return d
}

// sign writes a digest and its signature, and gives its hash and the signature, in hex.
func (c *CloudTrail) sign(d *digest) (hash, signature string, err error) {
	body, err := json.Marshal(d)
	if err != nil {
		return "", "", err
	}
	sum := sha256.Sum256(body)
	before := "null"
	if d.PreviousSignature != nil {
		before = *d.PreviousSignature
	}
	hash = hex.EncodeToString(sum[:])
	text := sha256.Sum256([]byte(d.End + "\n" + d.Bucket + "/" + d.Object + "\n" + hash + "\n" + before))
	sig, err := rsa.SignPKCS1v15(rand.Reader, c.key, crypto.SHA256, text[:])
	if err != nil {
		return "", "", fmt.Errorf("sign digest: %w", err)
	}
	signature = hex.EncodeToString(sig)
	if err := c.put(d.Object, body); err != nil {
		return "", "", err
	}
	meta, err := json.Marshal(map[string]string{"signature": signature, "signature-algorithm": d.Algorithm})
	if err != nil {
		return "", "", err
	}
	return hash, signature, os.WriteFile(filepath.Join(c.dir, c.bucket, filepath.FromSlash(d.Object)+".metadata.json"), append(meta, '\n'), 0o600)
}
