package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/kmsfs/kmsfs/keymgr"
)

// user is an identity's client: AWS' SDK, which asks once.
type user struct {
	s         *soak
	user      int
	rng       *rand.Rand
	sdk       *kms.Client
	transport *http.Transport
	mark      int       // outages seen so far
	began     time.Time // the call
	blobs     []sealed
	codes     map[string]int // answers; "" are successes
}

// sealed is a blob and what must come out of it.
type sealed struct {
	key     *subject
	blob    []byte
	plain   []byte
	context map[string]string
}

func (s *soak) newUser(n int) *user {
	u := &user{s: s, user: n % users, rng: rand.New(rand.NewPCG(s.seed, uint64(1000+n))), transport: &http.Transport{}, codes: map[string]int{}}
	id := s.users[u.user]
	u.sdk = kms.New(kms.Options{BaseEndpoint: aws.String("http://" + s.d.address), Region: keymgr.Region, Retryer: aws.NopRetryer{},
		HTTPClient: whole{&http.Client{Transport: u.transport, Timeout: patience}},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: id.AccessKeyID, SecretAccessKey: id.Secret}, nil
		})})
	return u
}

// whole sends requests whose bodies net/http knows to be in memory. Else it looks for a body's end behind what was sent, finds that the SDK has closed it when the answer has begun, and closes the
// connection, with the rest of an answer of more than 4 KiB.
type whole struct{ c *http.Client }

func (w whole) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		return w.c.Do(r)
	}
	body, err := io.ReadAll(r.Body)
	if err = errors.Join(err, r.Body.Close()); err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return w.c.Do(r)
}

// call makes one call and holds the answer to the model.
func (u *user) call(ctx context.Context) {
	if mark := u.s.outages.mark(); mark != u.mark {
		u.mark = mark
		u.transport.CloseIdleConnections() // they lead to a process that is gone
	}
	k := u.s.subject(u.rng)
	operation := []uint8{mayEncrypt, mayDecrypt, mayDecrypt, mayGenerate, mayDescribe}[u.rng.IntN(5)]
	broken := false
	var blob sealed
	if operation == mayDecrypt {
		if len(u.blobs) == 0 {
			return
		}
		blob = u.blobs[u.rng.IntN(len(u.blobs))]
		k = blob.key
		if broken = u.rng.IntN(8) == 0; broken {
			blob.blob = bytes.Clone(blob.blob)
			blob.blob[34+u.rng.IntN(len(blob.blob)-34)] ^= 1 << u.rng.IntN(8) // behind what names the key and the mechanism
		}
	}
	from := k.history.now()
	u.began = time.Now()
	err := u.run(ctx, operation, k, blob)
	u.judge(k, from, operation, broken, err)
}

// run does the operation; an answer that is wrong by itself is an error without a code.
func (u *user) run(ctx context.Context, operation uint8, k *subject, blob sealed) error {
	c := map[string]string{"n": fmt.Sprint(u.rng.IntN(100))}
	switch operation {
	case mayEncrypt:
		plain := fmt.Appendf(nil, "secret %d", u.rng.Uint64())
		out, err := u.sdk.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(k.id), Plaintext: plain, EncryptionContext: c})
		if err == nil {
			u.keep(sealed{k, out.CiphertextBlob, plain, c})
		}
		return err
	case mayGenerate:
		out, err := u.sdk.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String(k.id), KeySpec: types.DataKeySpecAes256, EncryptionContext: c})
		if err == nil {
			u.keep(sealed{k, out.CiphertextBlob, out.Plaintext, c})
		}
		return err
	case mayDecrypt:
		out, err := u.sdk.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob.blob, EncryptionContext: blob.context})
		if err == nil && !bytes.Equal(out.Plaintext, blob.plain) {
			return fmt.Errorf("opened %q, want %q", out.Plaintext, blob.plain)
		}
		return err
	}
	_, err := u.sdk.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(k.id)})
	return err
}

func (u *user) keep(b sealed) {
	if len(u.blobs) < 64 {
		u.blobs = append(u.blobs, b)
		return
	}
	u.blobs[u.rng.IntN(len(u.blobs))] = b
}

// judge says whether an answer is right for some moment of the call.
func (u *user) judge(k *subject, from int, operation uint8, broken bool, err error) {
	code, answered := "", true
	var api smithy.APIError
	if err != nil {
		if answered = errors.As(err, &api); answered {
			code = api.ErrorCode()
		}
	}
	unavailable := !answered || code == "KeyUnavailableException" || code == "DependencyTimeoutException"
	switch {
	case code == "ThrottlingException": // more signatures than the daemon remembers
		u.codes[code]++
		time.Sleep(time.Second)
		return
	case unavailable && u.s.outages.between(u.mark), code == "KeyUseLogException" && u.s.outages.late(u.mark):
		u.codes["unavailable"]++
		return
	case isLate(code) && u.s.late.tolerates(u.s.t, fmt.Errorf("after %v, %v: %w", time.Since(u.began), &u.s.outages, err)):
		u.codes["late"]++
		return
	}
	u.s.late.answered()
	var want []string
	for _, f := range k.history.since(from) {
		expected := f.expect(u.user, operation)
		if expected == "" && broken {
			expected = "InvalidCiphertextException"
		}
		want = append(want, expected)
	}
	if !answered || !slices.Contains(want, code) {
		u.s.t.Errorf("seed %d: %s by user %d on %s (broken blob: %v): %v, want one of %q", u.s.seed, operationNames[operation], u.user, k.id, broken, err, want)
		return
	}
	u.codes[code]++
}
