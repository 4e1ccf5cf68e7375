package local

import "time"

// Stats are figures of an open store.
type Stats struct {
	Generation uint64 // of this opening
	Sequence   uint64 // last committed record
	Durable    uint64 // last record that survives a power cut
	Checkpoint uint64 // last record in Badger

	JournalBytes int64 // waiting for a checkpoint
	JournalFiles int   // segments on disk, spare ones included
	OverlayRows  int   // keys in memory
	OverlayBytes int64 // that they take there with their values, about

	Updates     uint64        // committed
	Conflicts   uint64        // runs of transactions that were thrown away
	Syncs       uint64        // flushes of the journal
	Checkpoints uint64        // completed
	LastPause   time.Duration // how long the last checkpoint kept updates out
	Brought     time.Duration // how long all checkpoints took, from the freeze to the last step

	ExportBytes  int64 // of the metadata export
	ExportFiles  int
	ExportBehind error // why it does not reach the last checkpoint, or nil

	Recovery Recovery
	Failed   error // why the store failed, or nil
}

// Recovery says what Open had to do.
type Recovery struct {
	Clean    bool // the store had been closed
	Records  int  // replayed
	Bytes    int64
	Duration time.Duration
}

// Stats returns figures for status and tests.
func (s *Store) Stats() Stats {
	st := Stats{
		Generation:   s.generation,
		Durable:      s.durable.reached().seq,
		Conflicts:    s.conflicts.Load(),
		JournalBytes: s.journal.pending(),
		JournalFiles: s.journal.count(),
		Recovery:     s.recovered,
		Failed:       s.failure(),
	}
	if s.export != nil {
		st.ExportBytes, st.ExportFiles, st.ExportBehind = s.export.state()
	}
	s.durable.mu.Lock()
	st.Syncs = s.durable.flushes
	s.durable.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Sequence, st.Checkpoint = s.seq, s.checkpointed
	st.Updates, st.Checkpoints, st.LastPause = s.updates, s.checkpoints, s.pause
	st.Brought = s.brought
	for _, g := range []*generation{s.active, s.frozen} {
		if g != nil {
			rows, bytes := g.size()
			st.OverlayRows, st.OverlayBytes = st.OverlayRows+rows, st.OverlayBytes+bytes
		}
	}
	return st
}
