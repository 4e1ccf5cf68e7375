package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/fs/access"
	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

// useGrantName begins the name of an attribute of the root of every mount; the rest is a grant token. Who reads it uses the token: so the kernel says who that is, and whoever may look into the root can.
const useGrantName = "kmsfs.use-grant."

// TokenUsed is what became of a grant token at a mount.
type TokenUsed struct {
	MountPoint string    `json:"mount_point"`
	Until      time.Time `json:"until"`
}

// tokenAnswer is what the daemon says.
type tokenAnswer struct {
	Until   time.Time `json:"until,omitzero"`
	Code    string    `json:"code,omitempty"` // of the key manager's error; "" if it is used
	Message string    `json:"message,omitempty"`
}

// UseGrant attaches a grant token to the calling user and session at the mount that holds path ("": at every mount that is seen and may be looked into): it goes with their requests to the key manager for
// access.TokenLife. Errors: keymgr.ErrInvalidGrantToken, ErrNotMounted, ErrUsage (not the form of a token).
func UseGrant(token, path string) ([]TokenUsed, error) {
	if len(token) == 0 || len(useGrantName)+len(token) > 255 || strings.ContainsAny(token, "\x00\n ") {
		return nil, fmt.Errorf("%w: that is not a grant token as kmsfs grant create prints it", ErrUsage)
	}
	points, err := grantMounts(path)
	if err != nil {
		return nil, err
	}
	var used []TokenUsed
	var errs []error
	for _, point := range points {
		until, err := useGrantAt(point, token)
		if err != nil {
			errs = append(errs, fmt.Errorf("mount %s: %w", point, err))
			continue
		}
		used = append(used, TokenUsed{point, until})
	}
	if path == "" && len(used) > 0 { // another key store's mounts do not know the token
		return used, nil
	}
	return used, errors.Join(errs...)
}

func grantMounts(path string) ([]string, error) {
	if path != "" {
		point, err := mountPointOf(path)
		return []string{point}, err
	}
	table, err := mountTable()
	if err != nil {
		return nil, err
	}
	var points []string
	for _, m := range table {
		if m.Type == fsType {
			points = append(points, m.Point)
		}
	}
	if len(points) == 0 {
		return nil, fmt.Errorf("%w: there is no mount to use it at", ErrNotMounted)
	}
	return points, nil
}

func useGrantAt(point, token string) (time.Time, error) {
	buf := make([]byte, 4096)
	n, err := unix.Lgetxattr(point, useGrantName+token, buf)
	if err != nil {
		return time.Time{}, err
	}
	var a tokenAnswer
	if err := json.Unmarshal(buf[:n], &a); err != nil {
		return time.Time{}, fmt.Errorf("answer of the mount: %w", err)
	}
	if a.Code != "" {
		return time.Time{}, keymgr.FromCode(a.Code, a.Message)
	}
	return a.Until, nil
}

// ownAttribute answers reads of attributes of the root that are not stored.
func (v *Volume) ownAttribute(by access.Requester, name string) ([]byte, bool) {
	if token, ok := strings.CutPrefix(name, useGrantName); ok {
		return v.useGrant(by, token), true
	}
	return v.lastDenial(by, name)
}

// useGrant has the key manager say whether it is a token at all, and keeps it for the caller.
func (v *Volume) useGrant(by access.Requester, token string) []byte {
	ctx, cancel := awake.WithTimeout(context.Background(), askKeys)
	defer cancel()
	answer := tokenAnswer{Until: time.Now().Add(access.TokenLife)}
	if err := v.checkGrantToken(ctx, by, token); err != nil {
		answer = tokenAnswer{Code: keymgr.Code(err), Message: keymgr.Message(err)}
	} else if err := v.guard.UseToken(by, token); err != nil {
		answer = tokenAnswer{Code: keymgr.Code(keymgr.ErrLimit), Message: err.Error()}
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return nil
	}
	return raw
}

// checkGrantToken asks with the token, whatever is answered: what is no token of this key store is an error.
func (v *Volume) checkGrantToken(ctx context.Context, by access.Requester, token string) error {
	z, err := v.meta.Zone(ctx, meta.RootZone)
	if err != nil {
		return err
	}
	caller := keymgr.Caller{UID: int(by.UID), GID: int(by.GID), PID: int(by.PID), Via: keymgr.ViaFileDaemon}
	_, err = v.keys.Authorize(ctx, caller, keymgr.AuthorizeInput{Action: "kms:Decrypt", KeyID: z.Wraps[0].KeyID, Context: meta.ZoneContext(v.ID, z.ID, 0, "/"), Tokens: []string{token}})
	return err
}
