package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// requestView is a request that waits, as it is printed.
type requestView struct {
	ID         string          `json:"id"`
	Operation  string          `json:"operation"`
	Key        string          `json:"key,omitempty"`
	Requester  string          `json:"requester"`
	Created    time.Time       `json:"created"`
	Expires    time.Time       `json:"expires"`
	Parameters json.RawMessage `json:"parameters"`
}

func viewRequest(r keymgr.PendingRequest) requestView {
	return requestView{r.ID, r.Operation, r.KeyID, r.Requester, r.Created, r.Expires, json.RawMessage(r.Parameters)}
}

func approvalCommand(io stdio) *cobra.Command {
	return group("approval", "A second person for key policies, grants, deletions and what skips the lockout check",
		approvalOnCommand(), approvalOffCommand(), approvalStatusCommand(io), approvalListCommand(io), approvalShowCommand(io),
		requestCommand("approve ID", "Have a request carried out, exactly as it was made", func(ctx context.Context, keys *mount.Keys, id string) error {
			done, err := keys.ApproveRequest(ctx, keymgr.Caller{}, id)
			if err == nil {
				_, err = fmt.Fprintln(io.err, done)
			}
			return err
		}),
		requestCommand("reject ID", "Drop a request; who made it may, too", func(ctx context.Context, keys *mount.Keys, id string) error {
			return keys.RejectRequest(ctx, keymgr.Caller{}, id)
		}))
}

func approvalOnCommand() *cobra.Command {
	var store storeFlags
	var approvers []string
	cmd := &cobra.Command{
		Use: "on --approver NAME --approver NAME…", Short: "Name those who approve, two at least; where it is on already that needs approval", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(approvers) == 0 {
				return fmt.Errorf("%w: --approver names an identity, or an ARN; at least two are needed", mount.ErrUsage)
			}
			for i, name := range approvers {
				if !strings.HasPrefix(name, "arn:") {
					approvers[i] = keymgr.IdentityARN(name)
				}
			}
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				return keys.SetApproval(cmd.Context(), keymgr.Caller{}, approvers)
			})
		},
	}
	cmd.Flags().StringArrayVar(&approvers, "approver", nil, "`NAME` of an identity, or an ARN (arn:aws:iam::000000000000:unix/user/NAME)")
	store.addAs(cmd)
	return cmd
}

func approvalOffCommand() *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: "off", Short: "Need nobody's approval any more; needs approval itself", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error { return keys.SetApproval(cmd.Context(), keymgr.Caller{}, nil) })
		},
	}
	store.addAs(cmd)
	return cmd
}

func approvalStatusCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Say whether approval is needed, and by whom", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := struct {
				On        bool     `json:"on"`
				Approvers []string `json:"approvers"`
			}{Approvers: []string{}}
			err := withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				list, err := keys.Approvers(cmd.Context())
				out.On, out.Approvers = len(list) > 0, append(out.Approvers, list...)
				return err
			})
			if err != nil {
				return err
			}
			return io.print(asJSON, out, func(w *tabwriter.Writer) {
				line(w, "approval", map[bool]string{true: "on", false: "off"}[out.On])
				for _, arn := range out.Approvers {
					line(w, "approver", arn)
				}
			})
		},
	}
	store.addAs(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// waitingRequests reads what waits.
func waitingRequests(ctx context.Context, store *storeFlags) ([]requestView, error) {
	all := []requestView{}
	err := withKeys(ctx, store, func(keys *mount.Keys) error {
		list, err := keys.ListRequests(ctx, keymgr.Caller{})
		for _, r := range list {
			all = append(all, viewRequest(r))
		}
		return err
	})
	return all, err
}

func approvalListCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the requests that wait", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := waitingRequests(cmd.Context(), &store)
			if err != nil {
				return err
			}
			return io.print(asJSON, all, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "REQUEST\tOPERATION\tBY\tUNTIL\tKEY")
				for _, r := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.ID, r.Operation, r.Requester, since(r.Expires), r.Key)
				}
			})
		},
	}
	store.addAs(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func approvalShowCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a request as it would be carried out", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := waitingRequests(cmd.Context(), &store)
			if err != nil {
				return err
			}
			for _, r := range all {
				if r.ID != args[0] {
					continue
				}
				return io.print(asJSON, r, func(w *tabwriter.Writer) {
					line(w, "request", r.ID)
					line(w, "operation", r.Operation)
					line(w, "key", r.Key)
					line(w, "by", r.Requester)
					line(w, "made", since(r.Created))
					line(w, "until", since(r.Expires))
					line(w, "parameters", string(r.Parameters))
				})
			}
			return fmt.Errorf("request %s: %w", args[0], keymgr.ErrNotFound)
		},
	}
	store.addAs(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func requestCommand(use, short string, do func(context.Context, *mount.Keys, string) error) *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error { return do(cmd.Context(), keys, args[0]) })
		},
	}
	store.addAs(cmd)
	return cmd
}
