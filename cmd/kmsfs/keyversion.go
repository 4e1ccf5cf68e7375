package main

import (
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

// keyDestroyVersionCommand destroys one version of a key.
func keyDestroyVersionCommand(io stdio) *cobra.Command {
	var store storeFlags
	var lose []string
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use: "destroy-version KEY VERSION", Short: "Destroy one replaced version of a key in the token, once no volume needs it",
		Long: "Asks every volume of the key store what it has under VERSION, and destroys that backing key if the answer is nothing. All volumes have to be mounted by you, or given up with\n" +
			"--lose. Not known to any volume, and lost: backups from before the last rewrap, and what programs encrypted under VERSION themselves.",
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			version, err := strconv.ParseUint(args[1], 10, 32)
			if err != nil {
				return fmt.Errorf("%w: %q is no number of a version", mount.ErrUsage, args[1])
			}
			return withKeyARN(cmd.Context(), &store, args[0], func(keys *mount.Keys, arn string) error {
				plan, err := keys.PlanDestroyVersion(cmd.Context(), arn, uint32(version), lose)
				if err != nil {
					return err
				}
				if !yes {
					io.showLost(plan)
					if err := io.agree(fmt.Sprintf("Destroy version %d of %s, for ever?", plan.Version, plan.Key)); err != nil {
						return err
					}
				}
				if err := keys.DestroyVersion(cmd.Context(), plan); err != nil {
					return err
				}
				return io.print(asJSON, plan, func(w *tabwriter.Writer) {
					line(w, "destroyed", fmt.Sprintf("version %d of %s", plan.Version, plan.Key))
					for _, v := range plan.Volumes {
						line(w, "volume "+quote(v.Volume), volumeOutcome(v))
					}
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&lose, "lose", nil, "give up what `VOLUME` (id or directory) has under the version; may be repeated")
	f.BoolVar(&yes, "yes", false, "don't ask")
	store.addAs(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// showLost says what goes with the version.
func (std stdio) showLost(plan mount.VersionPlan) {
	for _, v := range plan.Volumes {
		fmt.Fprintf(std.err, "volume %s (%s): %s\n", quote(v.Volume), v.ID, volumeOutcome(v))
	}
	fmt.Fprintln(std.err, "backups of volumes from before their last rewrap, and what programs have encrypted under it by themselves, cannot be opened afterwards")
}

func volumeOutcome(v mount.VersionVolume) string {
	switch {
	case v.Lose && v.Unknown != "":
		return "given up; what is lost is not known: " + v.Unknown
	case v.Lose:
		return "given up; lost: " + v.Under.String()
	}
	return "has nothing under it"
}
