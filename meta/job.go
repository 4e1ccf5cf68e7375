package meta

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
)

// JobID numbers the long pieces of work on a volume; 0 is none.
type JobID uint64

// JobKind says what a job does.
type JobKind uint8

const (
	// JobReencrypt seals files anew under fresh keys.
	JobReencrypt JobKind = 1
	// JobMoved seals files anew that were moved into a zone: those in its queue, which grows as long as it runs.
	JobMoved JobKind = 2
	// JobRewrap gives zones other keys, and wraps the keys of their files anew.
	JobRewrap JobKind = 3
	// JobShred removes a file or directory, and what is left of it in the volume's files.
	JobShred JobKind = 4

	lastJobKind = JobShred
)

// JobState is where a job is.
type JobState uint8

const (
	JobRunning   JobState = 1 // or waiting for its turn
	JobPaused    JobState = 2
	JobDone      JobState = 3
	JobCancelled JobState = 4
)

// Ended tells that nothing happens any more.
func (s JobState) Ended() bool { return s == JobDone || s == JobCancelled }

// MaxProblem is the longest Job.Problem, in bytes.
const MaxProblem = 1024

// Limits of what a job's row says of files that could not be done.
const (
	MaxSkipped = 16
	MaxWhy     = 200 // bytes
)

// MaxShredPath is the longest Shred.Path, in bytes.
const MaxShredPath = 4096

// Shred is what a JobShred is about, as it was found when it was submitted: afterwards it is not there any more.
type Shred struct {
	Path   string            // in the volume; the beginning of a longer one
	Keys   uint64            // data keys
	Digest [sha256.Size]byte // over them, as the receipt says it
	Event  string            // id of the receipt in the audit log; "" before it is done
}

func (s *Shred) check() error {
	if len(s.Path) > MaxShredPath || len(s.Event) > 255 {
		return fmt.Errorf("shred: a path of %d bytes, a receipt of %d", len(s.Path), len(s.Event))
	}
	return nil
}

// Skipped is a file that a job could not do.
type Skipped struct {
	Ino Ino
	Why string
}

// Job is the row of a job: all that is needed to go on with it.
type Job struct {
	ID       JobID
	Kind     JobKind
	State    JobState
	UID, GID uint32 // who submitted it, and under whose rights it runs
	Root     Ino    // the file that it is about, or the directory whose files
	Zone     ZoneID // of JobRewrap: the zone that it is about, 0: all of them. 0 of others
	Made     Time   // when it was submitted
	Changed  Time   // when the row was written
	Rate     uint64 // bytes per second at most; 0: no limit
	CPU      uint8  // percent of the time that it may work, 1 to 100; 0: no limit

	Limit  Ino    // inodes after this one are newer than the job; of JobReencrypt and JobMoved
	Cursor Ino    // inodes up to this one are done
	File   Ino    // the one being worked on, 0 if none
	Epoch  uint32 // of File: what was sealed before is sealed anew; 0 if none

	TotalFiles, TotalBytes uint64    // what there was when it began
	Files, Bytes, Failed   uint64    // what is done, and files that could not be
	Millis                 uint64    // time that it ran
	Skipped                []Skipped // the first of those files, at most MaxSkipped
	Problem                string    // why it waits, was paused, or what the last failure was
	Shred                  *Shred    // of JobShred; nil of others. Not changed once it is here: replaced
}

// Skip adds a file that could not be done, if there is room, and counts it.
func (j *Job) Skip(ino Ino, why string) {
	j.Failed++
	if len(j.Skipped) < MaxSkipped {
		j.Skipped = append(j.Skipped[:len(j.Skipped):len(j.Skipped)], Skipped{ino, why[:min(len(why), MaxWhy)]})
	}
}

func (j *Job) check() error {
	switch {
	case j.ID == 0, j.Root == 0, j.Kind == 0, j.Kind > lastJobKind, j.State < JobRunning, j.State > JobCancelled, j.CPU > 100,
		(j.File == 0) != (j.Epoch == 0), j.Zone != 0 && j.Kind != JobRewrap, j.Made.Nsec > 999999999, j.Changed.Nsec > 999999999, len(j.Problem) > MaxProblem, len(j.Skipped) > MaxSkipped:
		return fmt.Errorf("job %d: kind %d, state %d, root %d, cpu %d", j.ID, j.Kind, j.State, j.Root, j.CPU)
	case slices.ContainsFunc(j.Skipped, func(f Skipped) bool { return len(f.Why) > MaxWhy }):
		return fmt.Errorf("job %d: why a file was skipped is longer than %d bytes", j.ID, MaxWhy)
	case (j.Shred != nil) != (j.Kind == JobShred):
		return fmt.Errorf("job %d: kind %d, shreds: %t", j.ID, j.Kind, j.Shred != nil)
	case j.Shred != nil:
		return j.Shred.check()
	}
	return nil
}

func encodeJob(j *Job) []byte {
	b := []byte{rowVersion, byte(j.Kind), byte(j.State)}
	b = binary.BigEndian.AppendUint32(b, j.UID)
	b = binary.BigEndian.AppendUint32(b, j.GID)
	b = binary.BigEndian.AppendUint64(b, uint64(j.Root))
	b = binary.BigEndian.AppendUint64(b, uint64(j.Zone))
	b = appendTime(appendTime(b, j.Made), j.Changed)
	b = append(binary.BigEndian.AppendUint64(b, j.Rate), j.CPU)
	b = binary.BigEndian.AppendUint32(b, j.Epoch)
	for _, v := range [...]uint64{uint64(j.Limit), uint64(j.Cursor), uint64(j.File), j.TotalFiles, j.TotalBytes, j.Files, j.Bytes, j.Failed, j.Millis} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = append(b, byte(len(j.Skipped)))
	for _, f := range j.Skipped {
		b = append(binary.BigEndian.AppendUint64(b, uint64(f.Ino)), byte(len(f.Why)))
		b = append(b, f.Why...)
	}
	if s := j.Shred; s != nil {
		b = append(binary.BigEndian.AppendUint64(b, s.Keys), s.Digest[:]...)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(s.Path))), s.Path...)
		b = append(append(b, byte(len(s.Event))), s.Event...)
	}
	return append(b, j.Problem...)
}

func decodeJob(id JobID, b []byte) (*Job, error) {
	d := newDecoder(b, "job")
	j := &Job{ID: id, Kind: JobKind(d.u8()), State: JobState(d.u8()), UID: d.u32(), GID: d.u32(), Root: Ino(d.u64()), Zone: ZoneID(d.u64())}
	j.Made, j.Changed = d.time(), d.time()
	j.Rate, j.CPU, j.Epoch = d.u64(), d.u8(), d.u32()
	j.Limit, j.Cursor, j.File = Ino(d.u64()), Ino(d.u64()), Ino(d.u64())
	j.TotalFiles, j.TotalBytes, j.Files, j.Bytes, j.Failed, j.Millis = d.u64(), d.u64(), d.u64(), d.u64(), d.u64(), d.u64()
	for n := d.u8(); n > 0 && len(j.Skipped) <= MaxSkipped; n-- {
		j.Skipped = append(j.Skipped, Skipped{Ino: Ino(d.u64()), Why: string(d.take(int(d.u8())))})
	}
	if j.Kind == JobShred {
		j.Shred = &Shred{Keys: d.u64()}
		copy(j.Shred.Digest[:], d.take(sha256.Size))
		j.Shred.Path, j.Shred.Event = string(d.take(int(d.u16()))), string(d.take(int(d.u8())))
	}
	j.Problem = string(d.take(len(d.b)))
	if err := d.done(); err != nil {
		return nil, err
	}
	if err := j.check(); err != nil {
		return nil, fmt.Errorf("job row: %w: %w", err, ErrCorrupt)
	}
	return j, nil
}

func (s *Store) openJob(key, sealed []byte) (*Job, error) {
	id, ok := parseIno(kindJob, key)
	if !ok {
		return nil, fmt.Errorf("job key: %w", ErrCorrupt)
	}
	plain, err := s.rows.open(key, sealed)
	if err != nil {
		return nil, err
	}
	return decodeJob(JobID(id), plain)
}

// PutJob replaces the row of a job. Changed becomes now. ErrInvalid for a row outside the limits.
func (s *Store) PutJob(ctx context.Context, j *Job) error {
	_, err := s.Update(ctx, func(tx *Tx) error { return tx.putJob(j) })
	return err
}

// AddJob adds a job under the next number, which j is given. Made and Changed become now: no key that is drawn afterwards is older. Errors as PutJob's.
func (s *Store) AddJob(ctx context.Context, j *Job) error {
	_, err := s.Update(ctx, func(tx *Tx) error { return tx.addJob(j) })
	return err
}

func (tx *Tx) addJob(j *Job) error {
	j.ID, j.Made = 1, tx.now
	err := tx.scanJobs(func(other *Job) bool {
		j.ID = other.ID + 1
		return true
	})
	if err != nil {
		return err
	}
	return tx.putJob(j)
}

func (tx *Tx) putJob(j *Job) error {
	j.Changed = tx.now
	if err := j.check(); err != nil {
		return fmt.Errorf("put %w: %w", err, ErrInvalid)
	}
	key := inoKey(kindJob, Ino(j.ID))
	sealed, err := tx.s.rows.seal(key, encodeJob(j))
	if err == nil {
		tx.w.Put(key, sealed)
	}
	return err
}

// DeleteJob deletes the row of a job, and what is in its queue. An absent one is no error.
func (s *Store) DeleteJob(ctx context.Context, id JobID) error {
	for {
		inos, err := s.Queue(ctx, id, removeBatch)
		if err != nil {
			return err
		}
		_, err = s.Update(ctx, func(tx *Tx) error {
			for _, ino := range inos {
				tx.w.Delete(queueKey(id, ino))
			}
			if len(inos) < removeBatch {
				tx.w.Delete(inoKey(kindJob, Ino(id)))
			}
			return nil
		})
		if err != nil || len(inos) < removeBatch {
			return err
		}
	}
}

// Jobs returns all jobs in the order of their numbers.
func (s *Store) Jobs(ctx context.Context) ([]*Job, error) {
	var all []*Job
	err := s.View(ctx, func(tx *Tx) error {
		all = nil
		return tx.scanJobs(func(j *Job) bool {
			all = append(all, j)
			return true
		})
	})
	return all, err
}

// scanJobs calls fn with every job in the order of their numbers until it returns false.
func (tx *Tx) scanJobs(fn func(*Job) bool) error {
	return scanRows(tx, kindJob, "jobs", tx.s.openJob, fn)
}

// Newest returns the largest inode number that has been given out.
func (s *Store) Newest(ctx context.Context) (Ino, error) {
	ino, err := s.newIno(ctx) // one is spent
	return ino, err
}
