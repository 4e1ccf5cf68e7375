package mount

import (
	"context"
	"errors"
	"fmt"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount/superblock"
)

// wrap is one wrap of a key: the ARN of its CMK, "" if it is not known, and the blob.
type wrap struct {
	key  string
	blob []byte
}

// rewrapped makes the wraps that are to be out of those there are; kept says why some stayed as they were.
func (r *rewrapper) rewrapped(ctx context.Context, old []wrap, encryptionContext keymgr.Context) (fresh []wrap, kept []string, err error) {
	switch {
	case r.args.Remove != "":
		rest := without(old, r.target)
		if len(rest) == len(old) {
			return old, nil, nil
		}
		if fresh, kept, err = r.renewed(ctx, rest, encryptionContext); err != nil {
			return nil, nil, advise(fmt.Errorf("what is left would not open it: %w", err), "add a wrap under another key first: kmsfs rewrap --add")
		}
		return fresh, kept, nil
	case r.target != "":
		made, err := r.under(ctx, r.target, old, encryptionContext)
		if err != nil {
			return nil, nil, err
		}
		if r.args.To != "" {
			return []wrap{made}, nil, nil
		}
		fresh = append(without(old, r.target), made)
		if len(fresh) > superblock.MaxWraps {
			return nil, nil, fmt.Errorf("%w: there are %d wraps already; remove one first", ErrUsage, len(old))
		}
		return fresh, nil, nil
	default:
		return r.renewed(ctx, old, encryptionContext)
	}
}

func without(all []wrap, key string) (rest []wrap) {
	for _, w := range all {
		if w.key != key {
			rest = append(rest, w)
		}
	}
	return rest
}

// renewed makes each wrap anew under the newest version of its own key. What is in another key store stays; an error if none could be made anew: then none of them is known to open.
func (r *rewrapper) renewed(ctx context.Context, old []wrap, encryptionContext keymgr.Context) (fresh []wrap, kept []string, err error) {
	errs := []error{}
	for _, w := range old {
		made, err := r.reEncrypt(ctx, w, w.key, encryptionContext)
		switch {
		case err == nil:
			fresh = append(fresh, made)
			continue
		case errors.Is(err, keymgr.ErrNotFound) || w.key == "":
			err = errors.New("its key is in another key store, or gone")
		case errors.Is(err, keymgr.ErrKeyUnavailable):
			return nil, nil, err // it may pass
		}
		errs = append(errs, err)
		kept = append(kept, fmt.Sprintf("wrap under %s: %v", w.key, err))
		fresh = append(fresh, w)
	}
	if len(errs) == len(old) {
		return nil, nil, errors.Join(append(errs, errors.New("no wrap opens in this key store"))...)
	}
	return fresh, kept, nil
}

// under makes a wrap under the key out of the first that opens.
func (r *rewrapper) under(ctx context.Context, key string, old []wrap, encryptionContext keymgr.Context) (wrap, error) {
	var errs []error
	for _, w := range old {
		if w.key == "" {
			continue
		}
		move := r.reEncrypt
		if r.foreign() {
			move = r.carry
		}
		made, err := move(ctx, w, key, encryptionContext)
		if err == nil {
			return made, nil
		}
		errs = append(errs, err)
	}
	return wrap{}, errors.Join(errs...)
}

// reEncrypt makes a wrap under another key of the mount's key store; the key that it wraps is not seen.
func (r *rewrapper) reEncrypt(ctx context.Context, w wrap, key string, encryptionContext keymgr.Context) (wrap, error) {
	out, err := r.v.keys.ReEncrypt(ctx, r.by, keymgr.ReEncryptInput{
		Blob: w.blob, SourceKeyID: w.key, SourceContext: encryptionContext, DestinationKeyID: key, DestinationContext: encryptionContext,
	})
	return wrap{out.KeyID, out.Blob}, err
}

// carry makes a wrap under a key of another key store: the key is opened here, by the right to Decrypt, and wrapped there in the daemon's own name.
func (r *rewrapper) carry(ctx context.Context, w wrap, key string, encryptionContext keymgr.Context) (wrap, error) {
	plain, err := r.v.keys.Decrypt(ctx, r.by, keymgr.DecryptInput{Blob: w.blob, KeyID: w.key, Context: encryptionContext})
	defer clear(plain.Plaintext)
	if err != nil {
		return wrap{}, err
	}
	out, err := r.keys.Encrypt(ctx, keymgr.Caller{}, keymgr.EncryptInput{KeyID: key, Plaintext: plain.Plaintext, Context: encryptionContext})
	return wrap{out.KeyID, out.Blob}, err
}
