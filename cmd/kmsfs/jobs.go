package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func reencryptCommand(io stdio) *cobra.Command {
	var cfg mount.ReencryptConfig
	var pace paceFlags
	var wait, asJSON bool
	cmd := &cobra.Command{
		Use:   "reencrypt VOLUME|DIR|FILE",
		Short: "Seal files of a mounted volume anew under fresh data keys, in the background",
		Long: "Submits a job that gives each file of a mounted volume, or below DIR in a mount, or FILE alone, a fresh data key, seals every block anew under it, and destroys\n" +
			"the old key. Programs go on meanwhile. The job survives a restart; kmsfs jobs shows how far it is.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg.Target = args[0]
			if cfg.Rate, cfg.CPU, err = pace.parse(); err != nil {
				return err
			}
			st, err := mount.Reencrypt(cmd.Context(), cfg)
			if err == nil && wait {
				st, err = waitForJob(cmd.Context(), io, asJSON, args[0], st.ID)
			}
			if err != nil {
				return err
			}
			if err := io.print(asJSON, st, func(w *tabwriter.Writer) { printJob(w, st, wait) }); err != nil {
				return err
			}
			return jobFailure(wait, st)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&cfg.All, "all", false, "all of the volume that the path lies in")
	pace.add(cmd)
	f.BoolVar(&wait, "wait", false, "return when the job is over")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// jobFailure is the error of a job that was waited for and did not do all.
func jobFailure(waited bool, st mount.JobStatus) error {
	switch {
	case !waited, st.State == "done" && st.Failed == 0:
		return nil
	case st.State == "done":
		return fmt.Errorf("job %d: %w: %d files could not be sealed anew, the last: %s", st.ID, mount.ErrFaults, st.Failed, st.Problem)
	default:
		return fmt.Errorf("job %d is %s: %s", st.ID, st.State, st.Problem)
	}
}

func jobsCommand(io stdio) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "jobs [VOLUME|PATH]",
		Short: "List the long pieces of work on this user's mounts",
		Args:  usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := mount.Jobs(cmd.Context(), strings.Join(args, ""))
			if err != nil {
				return err
			}
			return printTable(io, asJSON, all, "no jobs", jobColumns...)
		},
	}
	jsonFlag(cmd, &asJSON)
	for do, short := range map[string]string{
		mount.JobPause:  "Stop working on a job until it is resumed",
		mount.JobResume: "Go on with a job that was paused",
		mount.JobCancel: "End a job; what it has done stays done",
	} {
		cmd.AddCommand(&cobra.Command{
			Use: do + " VOLUME|PATH ID", Short: short, Args: usage(cobra.ExactArgs(2)),
			RunE: func(cmd *cobra.Command, args []string) error {
				id, err := parseJob(args[1])
				if err != nil {
					return err
				}
				return mount.JobControl(cmd.Context(), args[0], id, do)
			},
		})
	}
	cmd.AddCommand(waitCommand(io))
	return cmd
}

func waitCommand(io stdio) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "wait VOLUME|PATH ID", Short: "Show how far a job is, and return when it is over", Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseJob(args[1])
			if err != nil {
				return err
			}
			st, err := waitForJob(cmd.Context(), io, asJSON, args[0], id)
			if err == nil {
				err = io.print(asJSON, st, func(w *tabwriter.Writer) { printJob(w, st, true) })
			}
			if err != nil {
				return err
			}
			return jobFailure(true, st)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// waitForJob shows the progress of a job until it is over.
func waitForJob(ctx context.Context, io stdio, asJSON bool, target string, id uint64) (mount.JobStatus, error) {
	bar := io.bar(asJSON)
	defer bar.clear()
	return mount.JobWait(ctx, target, id, func(st mount.JobStatus) error {
		p := mount.Progress{Step: jobText(st), Done: st.Bytes, Total: st.TotalBytes}
		if st.TotalBytes == 0 { // a job that touches no data
			p.Done, p.Total = st.Files, st.TotalFiles
		}
		bar.show(p)
		return nil
	})
}

// jobText is what stands before the bar.
func jobText(st mount.JobStatus) string {
	text := fmt.Sprintf("job %d, %s", st.ID, st.State)
	if st.Speed > 0 {
		text += fmt.Sprintf(", %s/s", size(uint64(st.Speed)))
	}
	if st.Left > 0 {
		text += fmt.Sprintf(", %s left", (time.Duration(st.Left) * time.Second).String())
	}
	if st.State == "waiting" && st.Problem != "" {
		text += ": " + quote(st.Problem)
	}
	return text
}

// jobColumns is the list of jobs.
var jobColumns = []column[mount.JobStatus]{
	{"ID", func(st mount.JobStatus) string { return orDash(st.ID) }},
	{"STATE", func(st mount.JobStatus) string { return st.State }},
	{"WHAT", func(st mount.JobStatus) string { return st.What }},
	{"OF", func(st mount.JobStatus) string { return quote(st.Volume) + " " + quote(st.Root) }},
	{"DONE", jobDone},
	{"SPEED", jobSpeed},
	{"LEFT", jobLeft},
	{"PROBLEM", func(st mount.JobStatus) string { return quote(st.Problem) }},
}

// orDash is the number of a job; a rewrap has none.
func orDash(id uint64) string {
	if id == 0 {
		return "-"
	}
	return fmt.Sprint(id)
}

func jobDone(st mount.JobStatus) string {
	switch {
	case st.TotalKeys > 0:
		return fmt.Sprintf("%d of %s", st.Keys, count(st.TotalKeys, "key"))
	case st.TotalBytes > 0:
		return fmt.Sprintf("%d of %s, %s of %s", st.Files, count(st.TotalFiles, "file"), size(st.Bytes), size(st.TotalBytes))
	}
	return fmt.Sprintf("%d of %s", st.Files, count(st.TotalFiles, "file"))
}

func jobSpeed(st mount.JobStatus) string {
	if st.Speed == 0 {
		return ""
	}
	return size(uint64(st.Speed)) + "/s"
}

func jobLeft(st mount.JobStatus) string {
	if st.Left == 0 {
		return ""
	}
	return (time.Duration(st.Left) * time.Second).String()
}

// printJob prints one job: as a line of the list, or what became of it.
func printJob(w *tabwriter.Writer, st mount.JobStatus, report bool) {
	if !report {
		writeTable(w, []mount.JobStatus{st}, jobColumns)
		return
	}
	line(w, "job", fmt.Sprintf("%d, %s of %s %s", st.ID, st.What, quote(st.Volume), quote(st.Root)))
	line(w, "state", st.State)
	line(w, "problem", st.Problem)
	line(w, "files", fmt.Sprintf("%d of %d, %s", st.Files, st.TotalFiles, size(st.Bytes)))
	took := (time.Duration(st.Seconds*1000) * time.Millisecond).String()
	if st.Seconds > 0 {
		took += fmt.Sprintf(", %s/s", size(uint64(float64(st.Bytes)/st.Seconds)))
	}
	line(w, "took", took)
	if st.Failed > 0 {
		line(w, "skipped", fmt.Sprint(st.Failed))
	}
	for _, f := range st.Skipped {
		line(w, "  "+quote(f.Path), fmt.Sprintf("inode %d: %s", f.Inode, f.Why))
	}
	if st.Shred != nil {
		printReceipt(w, st.Shred)
	}
	line(w, "proof", st.Proof)
}

func parseJob(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 {
		return 0, fmt.Errorf("%w: %q is no number of a job", mount.ErrUsage, text)
	}
	return id, nil
}

// parseRate reads bytes, with K, M or G behind or not. "" is 0.
func parseRate(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	number, shift := text, 0
	if i := strings.IndexByte("KMG", text[len(text)-1]); i >= 0 {
		number, shift = text[:len(text)-1], 10*(i+1)
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n == 0 || n > 1<<50>>shift {
		return 0, fmt.Errorf("%w: rate %q is not like 500K, 50M or 1G", mount.ErrUsage, text)
	}
	return n << shift, nil
}

// parsePercent reads 25 or 25%. "" is 0.
func parsePercent(text string) (uint8, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(text, "%"), 10, 8)
	if err != nil || n < 1 || n > 100 {
		return 0, fmt.Errorf("%w: %q is no share from 1%% to 100%%", mount.ErrUsage, text)
	}
	return uint8(n), nil
}
