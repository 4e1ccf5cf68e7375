package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// keyPolicyEditCommand opens a key's policy in an editor.
func keyPolicyEditCommand(io stdio) *cobra.Command {
	var store storeFlags
	var bypass bool
	cmd := &cobra.Command{
		Use: "edit KEY", Short: "Change a key's policy with $VISUAL or $EDITOR; it is checked before it is stored", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeyARN(cmd.Context(), &store, args[0], func(keys *mount.Keys, arn string) error {
				e := policyEdit{std: io, keys: keys, arn: arn, bypass: bypass}
				return e.run(cmd.Context())
			})
		},
	}
	cmd.Flags().BoolVar(&bypass, "bypass-lockout-check", false, "also a policy under which you could not change it again")
	store.addAs(cmd)
	return cmd
}

// policyEdit is one `key policy edit`. What was written stays in its file unless it was stored.
type policyEdit struct {
	std    stdio
	keys   *mount.Keys
	arn    string
	bypass bool
	file   string
}

func (e *policyEdit) run(ctx context.Context) error {
	before, err := e.keys.GetKeyPolicy(ctx, keymgr.Caller{}, e.arn, keymgr.PolicyName)
	if err != nil {
		return err
	}
	if e.file, err = editable("kmsfs-policy-*.json", []byte(strings.TrimSuffix(before, "\n")+"\n")); err != nil {
		return err
	}
	answers := bufio.NewReader(io.LimitReader(e.std.in, 4096))
	for {
		after, err := e.edit()
		switch {
		case err != nil:
			return e.kept(err)
		case strings.TrimSpace(after) == strings.TrimSpace(before):
			fmt.Fprintln(e.std.err, "nothing was changed")
			return os.Remove(e.file)
		}
		err = e.store(ctx, before, after)
		if err == nil {
			return os.Remove(e.file)
		}
		if !errors.Is(err, keymgr.ErrMalformedPolicy) && !errors.Is(err, keymgr.ErrLimit) {
			return e.kept(err)
		}
		fmt.Fprintf(e.std.err, "not stored: %v\nEdit it again? [yes/no] ", err)
		if answer, _ := answers.ReadString('\n'); strings.TrimSpace(answer) != "yes" {
			return e.kept(err)
		}
	}
}

// edit runs the editor and returns what it left.
func (e *policyEdit) edit() (string, error) {
	if err := runEditor(e.std, e.file); err != nil {
		return "", err
	}
	after, err := os.ReadFile(e.file)
	return string(after), err
}

// errChanged: somebody else was faster.
var errChanged = errors.New("the policy was changed by somebody else meanwhile; put the two together and use kmsfs key policy put")

// store puts the policy, which checks it, unless it is no longer the one that was edited.
func (e *policyEdit) store(ctx context.Context, before, after string) error {
	now, err := e.keys.GetKeyPolicy(ctx, keymgr.Caller{}, e.arn, keymgr.PolicyName)
	if err != nil {
		return err
	}
	if now != before {
		return errChanged
	}
	return e.keys.PutKeyPolicy(ctx, keymgr.Caller{}, e.arn, keymgr.PolicyName, after, e.bypass)
}

// kept is the error of an edit that came to nothing.
func (e *policyEdit) kept(err error) error {
	return fmt.Errorf("%w; what you wrote is in %s", err, e.file)
}
