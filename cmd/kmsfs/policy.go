package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func policyCommand(io stdio) *cobra.Command {
	return group("policy", "Policies of directories: keys, storage, and who may do what (docs/POLICY.md)",
		policySetCommand(io), policyShowCommand(io), policyEditCommand(io), policyRemoveCommand(io), policyListCommand(io), policyCheckCommand(io), policySuggestCommand(io))
}

// named puts the file's name before what is wrong with a policy in it.
func named(file string, err error) error {
	if mount.ClassOf(err) == mount.ClassPolicy {
		return fmt.Errorf("%s: %w", file, err)
	}
	return err
}

func policySetCommand(io stdio) *cobra.Command {
	var asJSON, wait bool
	var pace paceFlags
	cmd := &cobra.Command{
		Use: "set DIR FILE", Short: "Put a policy on a directory of a mount, which becomes a zone with a key of its own", Args: usage(cobra.ExactArgs(2)),
		Long: "Puts a policy on a directory of a mount. If it changes the keys of a directory with files, or how they are stored, a job re-encrypts them while programs go on.",
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := mount.ReadPolicy(args[1])
			if err != nil {
				return err
			}
			rate, cpu, err := pace.parse()
			if err != nil {
				return err
			}
			z, err := mount.PolicySet(cmd.Context(), args[0], source, rate, cpu)
			if err != nil {
				return named(args[1], err)
			}
			if wait && z.Job != nil {
				st, err := waitForJob(cmd.Context(), io, asJSON, args[0], z.Job.ID)
				if err != nil {
					return err
				}
				z.Job = &st
			}
			if err := io.print(asJSON, z, func(w *tabwriter.Writer) { printZone(w, z) }); err != nil || z.Job == nil {
				return err
			}
			return jobFailure(wait, *z.Job)
		},
	}
	pace.add(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "return when the files are re-encrypted")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// paceFlags are the flags that hold a job back.
type paceFlags struct{ rate, cpu string }

func (p *paceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.rate, "rate", "", "at most `BYTES` a second, as in 50M")
	cmd.Flags().StringVar(&p.cpu, "cpu", "", "work at most this `PERCENT` of the time, as in 25%")
}

func (p *paceFlags) parse() (rate uint64, cpu uint8, err error) {
	if rate, err = parseRate(p.rate); err == nil {
		cpu, err = parsePercent(p.cpu)
	}
	return rate, cpu, err
}

func printZone(w *tabwriter.Writer, z mount.ZonePolicy) {
	line(w, "zone", fmt.Sprintf("%d, directory %s", z.Zone, quote(z.Directory)))
	line(w, "keys", strings.Join(z.Keys, " "))
	line(w, "files", fmt.Sprintf("blocks of %d bytes, compression %s", z.BlockSize, z.Compressed))
	if z.Policy == "" {
		line(w, "policy", "none: permissions alone decide")
	} else {
		line(w, "policy", fmt.Sprintf("version %d", z.Version))
	}
	if z.Locked {
		line(w, "state", "locked")
	}
	if !z.Learns.IsZero() {
		line(w, "learns", "until "+since(z.Learns))
	}
	if z.Job != nil {
		line(w, "job", fmt.Sprintf("%d re-encrypts the files that are there: %s", z.Job.ID, z.Job.State))
	}
}

func policyShowCommand(io stdio) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show DIR", Short: "Print the policy that counts in a directory", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			z, err := mount.PolicyShow(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return io.print(true, z, nil)
			}
			if !z.Own {
				fmt.Fprintf(io.err, "kmsfs: the policy is that of %s\n", quote(z.Directory))
			}
			if z.Policy == "" {
				fmt.Fprintln(io.err, "kmsfs: there is no policy: permissions alone decide")
			}
			_, err = io.out.Write([]byte(z.Policy))
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func policyListCommand(io stdio) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list PATH", Short: "List the zones of the mount that holds a path", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			zones, err := mount.PolicyList(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printTable(io, asJSON, zones, "no zones",
				column[mount.ZonePolicy]{"ZONE", func(z mount.ZonePolicy) string { return fmt.Sprint(z.Zone) }},
				column[mount.ZonePolicy]{"DIRECTORY", func(z mount.ZonePolicy) string { return quote(z.Directory) }},
				column[mount.ZonePolicy]{"POLICY", zoneState},
				column[mount.ZonePolicy]{"KEYS", func(z mount.ZonePolicy) string { return strings.Join(z.Keys, " ") }})
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// zoneState is the state of a zone's policy in a few words.
func zoneState(z mount.ZonePolicy) string {
	state := "none"
	if z.Policy != "" {
		state = fmt.Sprintf("version %d", z.Version)
	}
	if !z.Learns.IsZero() {
		state += ", learns until " + since(z.Learns)
	}
	if z.Locked {
		state += ", locked"
	}
	return state
}

func policyRemoveCommand(io stdio) *cobra.Command {
	var asJSON, wait bool
	var pace paceFlags
	cmd := &cobra.Command{
		Use: "rm DIR", Short: "Take a directory's policy away; its files get the keys and storage of the directory around", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			rate, cpu, err := pace.parse()
			if err != nil {
				return err
			}
			job, err := mount.PolicyRemove(cmd.Context(), args[0], rate, cpu)
			if err != nil || job == nil {
				return err
			}
			st := *job
			if wait {
				if st, err = waitForJob(cmd.Context(), io, asJSON, args[0], st.ID); err != nil {
					return err
				}
			}
			if err := io.print(asJSON, st, func(w *tabwriter.Writer) { printJob(w, st, wait) }); err != nil {
				return err
			}
			return jobFailure(wait, st)
		},
	}
	pace.add(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "return when the files are re-encrypted")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func policyEditCommand(io stdio) *cobra.Command {
	return &cobra.Command{
		Use: "edit DIR", Short: "Edit a directory's policy in $VISUAL or $EDITOR, and set it", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return editPolicy(cmd.Context(), io, args[0]) },
	}
}

// editPolicy keeps what was typed when it is refused.
func editPolicy(ctx context.Context, io stdio, dir string) error {
	z, err := mount.PolicyShow(ctx, dir)
	if err != nil {
		return err
	}
	before := []byte(z.Policy)
	if !z.Own || z.Policy == "" {
		before = []byte("version: 1\n")
	}
	file, err := editable("kmsfs-policy-*.yaml", before)
	if err != nil {
		return err
	}
	if err := runEditor(io, file); err != nil {
		fmt.Fprintf(io.err, "kmsfs: what you wrote is in %s\n", file)
		return err
	}
	after, err := mount.ReadPolicy(file)
	if err != nil {
		return err
	}
	if bytes.Equal(before, after) {
		fmt.Fprintln(io.err, "kmsfs: nothing was changed")
		return os.Remove(file)
	}
	if _, err := mount.PolicySet(ctx, dir, after, 0, 0); err != nil {
		fmt.Fprintf(io.err, "kmsfs: what you wrote is in %s\n", file)
		return named(file, err)
	}
	return os.Remove(file)
}

func policySuggestCommand(io stdio) *cobra.Command {
	return &cobra.Command{
		Use: "suggest DIR", Short: "Write statements for what a learning directory would have denied since the volume was mounted", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := mount.PolicySuggest(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = io.out.Write([]byte(text))
			return err
		},
	}
}

func lockCommand() *cobra.Command {
	return &cobra.Command{
		Use: "lock DIR", Short: "Take a directory with a policy out of use, what is open there too, until unlock", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := mount.LockDir(cmd.Context(), args[0])
			return err
		},
	}
}

func unlockCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unlock DIR", Short: "Put a locked directory to use again", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := mount.UnlockDir(cmd.Context(), args[0])
			return err
		},
	}
}

func explainCommand(io stdio) *cobra.Command {
	var asJSON, last bool
	cfg := mount.ExplainConfig{}
	cmd := &cobra.Command{
		Use: "explain PATH", Short: "Say how a request would be decided and why, or why the caller's latest one was refused", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if last {
				d, err := mount.LastDenial(args[0])
				if err != nil {
					return err
				}
				return io.print(asJSON, d, func(w *tabwriter.Writer) {
					line(w, "denied", d.Action+" at "+since(d.Time))
					line(w, "path", quote(d.Path))
					line(w, "cause", string(d.Cause))
					line(w, "reason", d.Reason)
				})
			}
			if cfg.Action == "" {
				return fmt.Errorf("%w: --action is missing", mount.ErrUsage)
			}
			cfg.Path = args[0]
			e, err := mount.Explain(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			return io.print(asJSON, e, func(w *tabwriter.Writer) {
				verdict := "allowed by policies and keys; permissions apply besides"
				if !e.Allowed {
					verdict = "denied: " + string(e.Cause)
				}
				line(w, "decision", verdict)
				line(w, "because", e.Reason)
				line(w, "zone", fmt.Sprintf("%d, directory %s", e.Zone, quote(e.Directory)))
				if e.Statement > 0 {
					line(w, "statement", fmt.Sprintf("%d %s, line %d of the policy of %s", e.Statement, e.Name, e.Line, quote(e.Directory)))
				}
				for _, k := range e.Keys {
					word := "denied"
					if k.Allowed {
						word = "allowed"
					}
					line(w, k.Action, fmt.Sprintf("%s with %s (%s)", word, k.Key, k.Reason))
				}
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.User, "user", "", "`USER` who asks, by name or number; default: you")
	flags.StringVar(&cfg.Program, "program", "", "`PATH` of the program that asks; default: not known")
	flags.StringVar(&cfg.Action, "action", "", "`ACTION`: List, Read, Write, Create, Delete, Rename, SetAttr or Admin")
	flags.BoolVar(&last, "last", false, "why your latest request on the mount was refused")
	jsonFlag(cmd, &asJSON)
	return cmd
}
