package trail

import (
	"math/rand/v2"
	"os"
	"sync"
)

// faultDisk is the disk of a stream with faults in between.
type faultDisk struct {
	osDisk
	mu    sync.Mutex
	files []*faultFile
	fault func(op string) error // nil: none. "write", "sync", "create", "reserve"
	hold  chan struct{}         // while not nil, writes and flushes wait until it is closed
	space int64                 // bytes that may still be written, if limited
	limit bool
	spare int64 // length of the reserve
}

// faultFile is a segment on it.
type faultFile struct {
	segmentFile
	d      *faultDisk
	path   string
	synced int64 // bytes that a power cut leaves alone
	size   int64
}

func (d *faultDisk) set(fn func(d *faultDisk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn(d)
}

func (d *faultDisk) meet(op string) error {
	d.mu.Lock()
	fault, hold := d.fault, d.hold
	d.mu.Unlock()
	if hold != nil && (op == "write" || op == "sync") {
		<-hold
	}
	if fault != nil {
		return fault(op)
	}
	return nil
}

func (d *faultDisk) wrap(s segment, f segmentFile) (segmentFile, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	w := &faultFile{segmentFile: f, d: d, path: s.plain(), synced: size, size: size}
	d.set(func(d *faultDisk) { d.files = append(d.files, w) })
	return w, nil
}

func (d *faultDisk) Create(s segment, header []byte) (segmentFile, error) {
	if err := d.meet("create"); err != nil {
		return nil, err
	}
	f, err := d.osDisk.Create(s, header)
	if err != nil {
		return nil, err
	}
	return d.wrap(s, f)
}

func (d *faultDisk) Open(s segment) (segmentFile, error) {
	f, err := d.osDisk.Open(s)
	if err != nil {
		return nil, err
	}
	return d.wrap(s, f)
}

// SetReserve takes its space from the same that writes use.
func (d *faultDisk) SetReserve(n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.limit {
		d.spare = n
		return nil
	}
	if n-d.spare > d.space {
		return errNoSpace
	}
	d.space, d.spare = d.space-(n-d.spare), n
	return nil
}

func (f *faultFile) Write(p []byte) (int, error) {
	if err := f.d.meet("write"); err != nil {
		half, _ := f.segmentFile.Write(p[:len(p)/2]) // as much as it could
		return half, err
	}
	f.d.mu.Lock()
	if f.d.limit && int64(len(p)) > f.d.space {
		n := f.d.space
		f.d.space = 0
		f.d.mu.Unlock()
		_, _ = f.segmentFile.Write(p[:n])
		return int(n), errNoSpace
	}
	if f.d.limit {
		f.d.space -= int64(len(p))
	}
	f.d.mu.Unlock()
	n, err := f.segmentFile.Write(p)
	f.d.mu.Lock()
	f.size += int64(n)
	f.d.mu.Unlock()
	return n, err
}

func (f *faultFile) Truncate(size int64) error {
	now, err := f.segmentFile.Size()
	if err != nil {
		return err
	}
	f.d.set(func(d *faultDisk) {
		if f.size = size; d.limit {
			d.space += now - size
		}
	})
	return f.segmentFile.Truncate(size)
}

func (f *faultFile) Sync() error {
	f.d.mu.Lock()
	size := f.size
	f.d.mu.Unlock()
	if err := f.d.meet("sync"); err != nil {
		return err
	}
	f.d.set(func(*faultDisk) { f.synced = max(f.synced, size) })
	return nil
}

// cutPower makes of every segment what a power cut leaves: what was flushed, and of the rest some sectors, zeros between them, up to some length.
func (d *faultDisk) cutPower(rng *rand.Rand) error {
	const sector = 512
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		data, err := os.ReadFile(f.path)
		if os.IsNotExist(err) || err == nil && int64(len(data)) <= f.synced {
			continue
		}
		if err != nil {
			return err
		}
		data = data[:f.synced+rng.Int64N(int64(len(data))-f.synced+1)]
		for at := f.synced; at < int64(len(data)); at += sector - at%sector {
			if rng.IntN(3) == 0 {
				clear(data[at:min(at+sector-at%sector, int64(len(data)))])
			}
		}
		if err := os.WriteFile(f.path, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
