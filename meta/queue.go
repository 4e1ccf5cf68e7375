package meta

import (
	"context"
	"encoding/binary"
	"fmt"
)

// The queue of a job is a row for each inode that waits for it, whose key says all. It is filled by the transactions that make the work.

func queueKey(id JobID, ino Ino) []byte { return ino8Key(kindQueue, Ino(id), uint64(ino)) }

// enqueue puts an inode into the queue of the running JobMoved of a user for a zone's directory, or of a new one.
func (tx *Tx) enqueue(by Owner, root, ino Ino) (JobID, error) {
	var id JobID
	err := tx.scanJobs(func(j *Job) bool {
		if j.Kind == JobMoved && j.State == JobRunning && j.Root == root && (Owner{j.UID, j.GID}) == by {
			id = j.ID
		}
		return id == 0
	})
	if err == nil && id == 0 {
		j := &Job{Kind: JobMoved, State: JobRunning, UID: by.UID, GID: by.GID, Root: root}
		err, id = tx.addJob(j), j.ID
	}
	if err != nil {
		return 0, err
	}
	return id, tx.putMark(queueKey(id, ino))
}

// Queue returns at most limit inodes that wait in the queue of a job, in ascending order.
func (s *Store) Queue(ctx context.Context, id JobID, limit int) (inos []Ino, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		inos, err = tx.queue(id, limit)
		return err
	})
	return inos, err
}

func (tx *Tx) queue(id JobID, limit int) (inos []Ino, err error) {
	prefix := inoKey(kindQueue, Ino(id))
	var failed error
	err = tx.r.Scan(tx.ctx, prefix, afterPrefix(prefix), limit, func(k, v []byte) bool {
		if failed = tx.s.checkQueue(k, v); failed != nil {
			return false
		}
		inos = append(inos, Ino(binary.BigEndian.Uint64(k[9:])))
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("queue of job %d: %w", id, err)
	}
	return inos, nil
}

func (s *Store) checkQueue(key, value []byte) error {
	if _, _, ok := parseIno8(kindQueue, key); !ok {
		return fmt.Errorf("queue key: %w", ErrCorrupt)
	}
	plain, err := s.rows.open(key, value)
	if err != nil {
		return err
	}
	return decodeMark(plain, "queue")
}

// Enqueue puts inodes into the queue of a job, all or none. One that is there stays.
func (s *Store) Enqueue(ctx context.Context, id JobID, inos ...Ino) error {
	_, err := s.Update(ctx, func(tx *Tx) error {
		for _, ino := range inos {
			if err := tx.putMark(queueKey(id, ino)); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// Dequeue takes inodes out of the queue of a job. One that is not there is no error.
func (s *Store) Dequeue(ctx context.Context, id JobID, inos ...Ino) error {
	_, err := s.Update(ctx, func(tx *Tx) error {
		for _, ino := range inos {
			tx.w.Delete(queueKey(id, ino))
		}
		return nil
	})
	return err
}

// EndQueue makes a job done if nothing is in its queue: nothing gets into it from then on. It tells whether that was so.
func (s *Store) EndQueue(ctx context.Context, j *Job) (ended bool, err error) {
	_, err = s.Update(ctx, func(tx *Tx) error {
		waiting, err := tx.queue(j.ID, 1)
		if ended = err == nil && len(waiting) == 0; !ended {
			return err
		}
		last := *j
		last.State = JobDone
		return tx.putJob(&last)
	})
	return ended && err == nil, err
}
