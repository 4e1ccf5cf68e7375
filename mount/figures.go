package mount

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/server"
	"github.com/kmsfs/kmsfs/mount/metrics"
)

// metricsAddress checks an address of metrics, and makes the path of a socket absolute.
func metricsAddress(address string) (string, error) {
	if address == "" {
		return "", nil
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok && path != "" {
		abs, err := filepath.Abs(path)
		if err != nil {
			return "", fmt.Errorf("socket %s: %w", path, err)
		}
		address = "unix:" + abs
	}
	return address, metrics.CheckAddress(address)
}

// meter counts requests; nil if nothing is measured.
func (d *daemon) meter() fs.Meter {
	if d.registry == nil {
		return nil
	}
	return metrics.NewFiles(d.registry)
}

// serveMetrics serves figures, if that was asked for.
func (d *daemon) serveMetrics() (err error) {
	if d.registry == nil {
		return nil
	}
	metrics.Ask(d.registry, d.journalFigures)
	metrics.Ask(d.registry, d.cacheFigures)
	metrics.Ask(d.registry, d.auditFigures)
	metrics.Ask(d.registry, d.jobFigures)
	if d.metrics, err = metrics.Serve(d.cfg.Metrics, d.registry, d.log); err == nil {
		d.log.Info("metrics are served", "address", d.metrics.Addr())
	}
	return err
}

// count is a figure that only grows, gauge one that does not.
func count(name, help string, v uint64, labels ...string) metrics.Value {
	return metrics.Value{Name: name, Help: help, Count: true, Value: float64(v), Labels: labels}
}

func gauge(name, help string, v float64, labels ...string) metrics.Value {
	return metrics.Value{Name: name, Help: help, Value: v, Labels: labels}
}

func truth(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}

func (d *daemon) journalFigures() []metrics.Value {
	s := d.volume.kv.Stats()
	return []metrics.Value{
		gauge("kmsfs_volume_failed", "1 if the volume takes no changes since a write below failed.", truth(s.Failed != nil)),
		gauge("kmsfs_journal_bytes", "Bytes of the journal that wait for a checkpoint.", float64(s.JournalBytes)),
		count("kmsfs_journal_records_total", "Records of the journal since the volume was made.", s.Sequence),
		gauge("kmsfs_journal_undurable_records", "Records that a power cut would take.", float64(s.Sequence-min(s.Sequence, s.Durable))),
		count("kmsfs_journal_syncs_total", "Flushes of the journal.", s.Syncs),
		count("kmsfs_updates_total", "Transactions that were committed.", s.Updates),
		count("kmsfs_update_conflicts_total", "Runs of transactions that were thrown away.", s.Conflicts),
		gauge("kmsfs_overlay_rows", "Rows in memory that wait for a checkpoint.", float64(s.OverlayRows)),
		gauge("kmsfs_overlay_bytes", "Bytes that they take.", float64(s.OverlayBytes)),
		count("kmsfs_checkpoints_total", "Checkpoints that were completed.", s.Checkpoints),
		{Name: "kmsfs_checkpoint_seconds_total", Help: "Time that checkpoints took, from the freeze to the last step.", Count: true, Value: s.Brought.Seconds()},
		gauge("kmsfs_checkpoint_pause_seconds", "How long the last checkpoint kept changes out.", s.LastPause.Seconds()),
		gauge("kmsfs_export_behind", "1 if the metadata export does not reach the last checkpoint.", truth(s.ExportBehind != nil)),
		gauge("kmsfs_anchored_records", "Records that the key store knows of.", float64(d.volume.anchor.anchored())),
	}
}

func (d *daemon) cacheFigures() []metrics.Value {
	const hits, misses = "Things that were found in memory.", "Things that were not."
	rowHits, rowMisses := d.volume.meta.CacheCounts()
	c := d.volume.content.CacheCounts()
	var all []metrics.Value
	for _, one := range []struct {
		cache        string
		hits, misses uint64
	}{{"rows", rowHits, rowMisses}, {"map_rows", c.RowHits, c.RowMisses}, {"file_keys", c.KeyHits, c.KeyMisses}} {
		all = append(all, count("kmsfs_cache_hits_total", hits, one.hits, "cache", one.cache), count("kmsfs_cache_misses_total", misses, one.misses, "cache", one.cache))
	}
	return all
}

func (d *daemon) auditFigures() []metrics.Value {
	s := d.volume.audit.Status()
	return []metrics.Value{
		count("kmsfs_audit_records_total", "Records of this volume's stream of the audit log.", uint64(s.Size)),
		gauge("kmsfs_audit_queue", "Records that are not in the file yet.", float64(s.Queued)),
		gauge("kmsfs_audit_unflushed_seconds", "For how long the oldest record in the file has not been on disk.", s.Unflushed.Seconds()),
		gauge("kmsfs_audit_unsealed_records", "Records that no seal covers yet.", float64(s.Size-s.Sealed)),
		gauge("kmsfs_audit_full", "1 if the log has room for changes and repair alone.", truth(s.Full)),
		gauge("kmsfs_audit_missing", "Events of access that went on without a record, not yet recorded as missing.", float64(s.Missing)),
		gauge("kmsfs_audit_failed", "1 if the last batch could not be written or flushed.", truth(d.volume.audit.Err() != nil)),
	}
}

// figuresTimeout bounds what is asked for figures.
const figuresTimeout = 5 * time.Second

func (d *daemon) jobFigures() []metrics.Value {
	ctx, cancel := context.WithTimeout(context.Background(), figuresTimeout)
	defer cancel()
	list, err := d.jobs.List(ctx)
	if err != nil {
		return nil
	}
	var all []metrics.Value
	states := map[string]int{"running": 0, "waiting": 0, "paused": 0, "done": 0, "cancelled": 0}
	for _, j := range list {
		states[jobState(j)]++
		if j.State.Ended() {
			continue
		}
		l := []string{"job", fmt.Sprint(j.ID), "kind", jobName(j.Kind)}
		all = append(all,
			gauge("kmsfs_job_files", "Files that a job has done.", float64(j.Files), l...), gauge("kmsfs_job_files_in_all", "Files that it has to do.", float64(j.TotalFiles), l...),
			gauge("kmsfs_job_bytes", "Bytes that a job has done.", float64(j.Bytes), l...), gauge("kmsfs_job_bytes_in_all", "Bytes that it has to do.", float64(j.TotalBytes), l...),
			gauge("kmsfs_job_failed_files", "Files that a job could not do.", float64(j.Failed), l...),
		)
	}
	for state, n := range states {
		all = append(all, gauge("kmsfs_jobs", "Jobs in the list, by state.", float64(n), "state", state))
	}
	return all
}

// keydMetrics serves the figures of a key daemon that is about to run.
func keydMetrics(dir, address, version string, run *server.RunConfig, log *slog.Logger) (*metrics.Server, error) {
	r := metrics.NewRegistry(version)
	run.Observe = metrics.NewCalls(r, "kmsfs_keyd_operation", "Operations of the key manager.", keymgr.Code).Call
	metrics.Ask(r, func() []metrics.Value {
		ctx, cancel := context.WithTimeout(context.Background(), figuresTimeout)
		defer cancel()
		keys := dialKeys(dir)
		defer keys.Close()
		st, err := keys.Status(ctx)
		return []metrics.Value{
			gauge("kmsfs_keyd_answers", "1 if the key daemon answers on its socket.", truth(err == nil)),
			gauge("kmsfs_keyd_locked", "1 if the key store waits for its secret.", truth(err == nil && st.Locked)),
			gauge("kmsfs_keyd_token_answers", "1 if the token answers.", truth(err == nil && !st.Locked && st.Token.Error == "")),
			gauge("kmsfs_keyd_audit_failed", "1 if the audit log could not be written last time.", truth(st.LogError != "")),
			gauge("kmsfs_keyd_volumes", "Volumes whose front ends are connected.", float64(len(st.Volumes))),
		}
	})
	return metrics.Serve(address, r, log)
}
