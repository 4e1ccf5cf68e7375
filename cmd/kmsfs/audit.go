package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func auditCommand(io stdio) *cobra.Command {
	return group("audit", "The audit log: check, search, prove, export and archive it",
		auditVerifyCommand(io), auditHeadCommand(io), auditQueryCommand(io), auditTailCommand(io), auditProveCommand(io), auditExportCommand(io), auditArchiveCommand(io), auditAcceptCommand(), auditConfigureCommand(), auditorKeyCommand(io))
}

// auditFlags are the flags of what is checked against sealed heads.
type auditFlags struct {
	storeFlags
	source mount.AuditSource
}

func (f *auditFlags) add(cmd *cobra.Command) {
	f.storeFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.source.PublicKey, "public-key", "", "check against the key in `FILE` (with --head; no key store is needed)")
	flags.StringVar(&f.source.Head, "head", "", "check against the heads in `FILE`, which kmsfs audit head printed")
}

func (f *auditFlags) of(args []string) mount.AuditSource {
	s := f.source
	s.KeyStore, s.Secret = f.dir, f.secret
	if len(args) > 0 {
		s.Dir = args[0]
	}
	return s
}

// auditView is what verify says of one stream.
type auditView struct {
	Stream   string   `json:"stream"`
	Records  int64    `json:"records"`
	From     int64    `json:"from,omitempty"`
	Sealed   int64    `json:"sealed"`
	Unsealed int64    `json:"unsealed"`
	Seconds  float64  `json:"unsealed_seconds"`
	Torn     bool     `json:"torn,omitempty"`
	Missing  uint64   `json:"missing,omitempty"` // the log itself says so
	Faults   []string `json:"faults"`
}

func auditVerifyCommand(io stdio) *cobra.Command {
	var f auditFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "verify [DIR]", Short: "Check that the log is whole up to its sealed head", Args: usage(cobra.MaximumNArgs(1)),
		Long: "Checks every record of every stream, every seal, and that the log contains the head that the key store keeps, or that --head names. Faults are printed one a line.\n" +
			"Records behind the last seal, as a crash leaves them, are no fault: the line of the stream says how many they are.",
		RunE: func(cmd *cobra.Command, args []string) error {
			reports, err := mount.VerifyAudit(cmd.Context(), f.of(args))
			if err != nil && !errors.Is(err, mount.ErrAuditFaults) {
				return err
			}
			views := []auditView{}
			for _, r := range reports {
				v := auditView{r.Stream, r.Records, r.From, r.Sealed, r.Tail, r.TailTime.Seconds(), r.Torn, r.Missing, []string{}}
				for _, fault := range r.Faults {
					v.Faults = append(v.Faults, fault.String())
				}
				views = append(views, v)
			}
			perr := io.print(asJSON, views, func(w *tabwriter.Writer) { printReports(w, views) })
			return errors.Join(err, perr)
		},
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&f.source.Archives, "archive", nil, "parts of the log were archived in `DIR`; check them too")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printReports(w *tabwriter.Writer, views []auditView) {
	for _, v := range views {
		for _, fault := range v.Faults {
			fmt.Fprintln(w, "FAULT:", fault)
		}
		state := "whole"
		if len(v.Faults) > 0 {
			state = "NOT WHOLE"
		}
		tail := "no unsealed tail"
		if v.Unsealed > 0 || v.Torn {
			tail = fmt.Sprintf("unsealed tail: %d records, %.1f s", v.Unsealed, v.Seconds)
		}
		if v.Torn {
			tail += ", the last line is not whole"
		}
		if v.Missing > 0 {
			tail += fmt.Sprintf("; the log says that up to %d events of access are missing", v.Missing)
		}
		records := "no records"
		if v.Records > 0 {
			records = fmt.Sprintf("records %d to %d", v.From, v.From+v.Records-1)
		}
		fmt.Fprintf(w, "%s: %s, %s, sealed before %d; %s\n", v.Stream, state, records, v.Sealed, tail)
	}
}

func auditHeadCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "head", Short: "Print the key and the sealed heads of all streams, to be kept elsewhere", Args: usage(cobra.NoArgs),
		Long: "Prints the public key and the sealed head of each stream. Kept where nobody who can change the log can change it, the output serves verify as both --public-key and --head.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := mount.AuditHeads(cmd.Context(), store.dir, store.secret)
			if err != nil {
				return err
			}
			type head struct {
				Stream string `json:"stream"`
				Size   int64  `json:"size"`
				Root   string `json:"root"`
				Seal   string `json:"seal"`
			}
			v := struct {
				Key   string `json:"key"`
				Dir   string `json:"dir"`
				Heads []head `json:"heads"`
			}{st.Key.String(), st.Dir, []head{}}
			for _, a := range st.Heads {
				v.Heads = append(v.Heads, head{a.Stream, a.Size, a.Root.String(), string(a.Seal)})
			}
			if asJSON {
				return io.print(true, v, nil)
			}
			fmt.Fprintf(io.out, "key: %s\n", v.Key)
			for _, h := range v.Heads {
				fmt.Fprintf(io.out, "\n%s", h.Seal)
			}
			return nil
		},
	}
	store.add(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func auditProveCommand(io stdio) *cobra.Command {
	var f auditFlags
	var check string
	cmd := &cobra.Command{
		Use: "prove EVENT-ID | prove --check FILE --public-key FILE", Short: "Print the proof that one event is in the log, or check one", Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if check != "" {
				e, head, err := mount.CheckProof(check, f.source.PublicKey)
				if err != nil {
					return err
				}
				fmt.Fprintf(io.out, "record %d of stream %s, sealed under a head of %d records\n", e.Sequence, head.Stream, head.Size)
				return nil
			}
			if len(args) != 1 {
				return fmt.Errorf("%w: name one event by its eventID", mount.ErrUsage)
			}
			proof, err := mount.ProveAudit(cmd.Context(), f.of(nil), args[0])
			if err != nil {
				return err
			}
			enc := json.NewEncoder(io.out)
			enc.SetIndent("", "  ")
			return enc.Encode(proof)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.source.Dir, "dir", "", "the log's `DIR`, if it is not the key store's")
	cmd.Flags().StringVar(&check, "check", "", "check the proof in `FILE`")
	return cmd
}

func auditArchiveCommand(io stdio) *cobra.Command {
	var store storeFlags
	var to string
	var age time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use: "archive --to DIR", Short: "Move closed parts of the log into another directory", Args: usage(cobra.NoArgs),
		Long: "Copies closed segments into DIR, one directory a stream, records that in the log, and removes them from it. Works while the log is full. verify --archive DIR checks both.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return fmt.Errorf("%w: --to DIR says where", mount.ErrUsage)
			}
			list, err := mount.ArchiveAudit(cmd.Context(), store.dir, store.secret, to, time.Now().Add(-age))
			perr := io.print(asJSON, list, func(w *tabwriter.Writer) {
				for _, a := range list {
					fmt.Fprintf(w, "stream %s:\trecords before %d, %s\n", a.Stream, a.UpTo, size(uint64(a.Bytes)))
				}
				if len(list) == 0 && err == nil {
					fmt.Fprintln(w, "nothing is closed and old enough")
				}
			})
			return errors.Join(err, perr)
		},
	}
	store.add(cmd)
	cmd.Flags().StringVar(&to, "to", "", "`DIR` to move to; made if it is not there")
	cmd.Flags().DurationVar(&age, "older-than", 0, "only what is older than `DURATION`")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func auditAcceptCommand() *cobra.Command {
	var store storeFlags
	var reason string
	cmd := &cobra.Command{
		Use: "accept STREAM --reason TEXT", Short: "Give up the sealed head of a stream whose log was lost or damaged, and go on", Args: usage(cobra.ExactArgs(1)),
		Long: "After this, a key store or volume that refuses its audit log opens again. The loss is recorded, and verify says it for ever.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return fmt.Errorf("%w: --reason says why", mount.ErrUsage)
			}
			return mount.AcceptAudit(cmd.Context(), store.dir, store.secret, args[0], reason)
		},
	}
	store.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why the sealed log is not there any more, for the record (`TEXT`)")
	return cmd
}

func auditConfigureCommand() *cobra.Command {
	var store storeFlags
	var dir string
	var sinks []string
	var auditor string
	cmd := &cobra.Command{
		Use: "configure [--audit-dir DIR] [--sink SINK]... [--auditor FILE]", Short: "Say where the log is, who else gets every event, who alone can read it; while no key daemon runs", Args: usage(cobra.NoArgs),
		Long: "Replaces all three settings. A sink is syslog, journal, or an http or https URL that takes JSON lines; with required: in front, operations wait for it, and fail without it within\n" +
			"2 s; without, it may lose events, and the log says how many. The log is not moved: move it before.",
		RunE: func(*cobra.Command, []string) error { return mount.ConfigureAudit(store.dir, dir, sinks, auditor) },
	}
	store.addDir(cmd)
	cmd.Flags().StringVar(&dir, "audit-dir", "", "the log's `DIR` (default KEYSTORE/audit)")
	cmd.Flags().StringArrayVar(&sinks, "sink", nil, "another place for every event: `SINK`, once for each")
	cmd.Flags().StringVar(&auditor, "auditor", "", "seal events to the auditor whose public key is in `FILE`")
	return cmd
}

func auditorKeyCommand(io stdio) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "auditor-key --out FILE", Short: "Make an auditor's key pair: the secret key in FILE, the public one printed, for configure --auditor", Args: usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if out == "" {
				return fmt.Errorf("%w: --out says where the secret key goes", mount.ErrUsage)
			}
			public, err := mount.MakeAuditorKey(out)
			if err == nil {
				_, err = fmt.Fprintln(io.out, public)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`FILE` for the secret key; it must not be there")
	return cmd
}
