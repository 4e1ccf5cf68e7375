package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// requestView is a request, as it is printed.
type requestView struct {
	ID         string          `json:"id"`
	Operation  string          `json:"operation"`
	Key        string          `json:"key,omitempty"`
	Requester  string          `json:"requester"`
	Created    time.Time       `json:"created"`
	Expires    time.Time       `json:"expires"`
	Parameters json.RawMessage `json:"parameters"`
	Done       time.Time       `json:"done,omitzero"` // it was approved, and carried out
	Approver   string          `json:"approver,omitempty"`
	Answer     json.RawMessage `json:"answer,omitempty"`
	Withheld   string          `json:"withheld,omitempty"`
}

func viewRequest(r keymgr.PendingRequest) requestView {
	return requestView{r.ID, r.Operation, r.KeyID, r.Requester, r.Created, r.Expires, json.RawMessage(r.Parameters), r.Done, r.Approver, json.RawMessage(r.Answer), r.Withheld}
}

func approvalCommand(io stdio) *cobra.Command {
	return group("approval", "A second person for key policies, grants, deletions and what skips the lockout check",
		approvalOnCommand(),
		callCommand("off", "Need nobody's approval any more; needs approval itself", identities, func(ctx context.Context, keys *mount.Keys, _ []string) error {
			return keys.SetApproval(ctx, keymgr.Caller{}, nil)
		}),
		approvalStatusCommand(io),
		listCommand(io, listing[requestView]{
			use: "list", short: "List the requests that wait", none: "no request waits", identities: true, rows: waitingRequests,
			columns: []column[requestView]{
				{"REQUEST", func(r requestView) string { return r.ID }},
				{"OPERATION", func(r requestView) string { return r.Operation }},
				{"BY", func(r requestView) string { return r.Requester }},
				{"UNTIL", func(r requestView) string { return since(r.Expires) }},
				{"KEY", func(r requestView) string { return r.Key }},
			},
		}),
		approvalShowCommand(io),
		callCommand("approve ID", "Have a request carried out, exactly as it was made", identities, func(ctx context.Context, keys *mount.Keys, args []string) error {
			done, err := keys.ApproveRequest(ctx, keymgr.Caller{}, args[0])
			if err == nil {
				_, err = fmt.Fprintln(io.err, done)
			}
			return err
		}),
		callCommand("reject ID", "Drop a request; who made it may, too", identities, func(ctx context.Context, keys *mount.Keys, args []string) error {
			return keys.RejectRequest(ctx, keymgr.Caller{}, args[0])
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
func waitingRequests(ctx context.Context, keys *mount.Keys, _ []string) (all []requestView, err error) {
	list, err := keys.ListRequests(ctx, keymgr.Caller{})
	for _, r := range list {
		all = append(all, viewRequest(r))
	}
	return all, err
}

func approvalShowCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a request as it would be carried out, or what it answered when it was", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				found, err := keys.GetRequest(cmd.Context(), keymgr.Caller{}, args[0])
				if errors.Is(err, keymgr.ErrNotFound) {
					return &mount.Advice{Err: err, Next: "kmsfs approval list shows those that wait"}
				}
				if err != nil {
					return err
				}
				r := viewRequest(found)
				return io.print(asJSON, r, func(w *tabwriter.Writer) { printRequest(w, r) })
			})
		},
	}
	store.addAs(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printRequest(w *tabwriter.Writer, r requestView) {
	line(w, "request", r.ID)
	line(w, "operation", r.Operation)
	line(w, "key", r.Key)
	line(w, "by", r.Requester)
	line(w, "made", since(r.Created))
	line(w, "parameters", string(r.Parameters))
	if r.Done.IsZero() {
		line(w, "waits until", since(r.Expires))
		return
	}
	line(w, "carried out", since(r.Done))
	line(w, "approved by", r.Approver)
	line(w, "answer", string(r.Answer))
	line(w, "not kept", r.Withheld)
	line(w, "shown until", since(r.Expires))
}
