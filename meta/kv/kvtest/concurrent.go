package kvtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

const (
	accounts  = 12
	balance   = 100
	workers   = 6
	transfers = 250
)

func account(i int) []byte { return fmt.Appendf(nil, "acct%02d", i) }

// sum adds the balances up, by Scan or by Get.
func sum(r kv.Reader, byScan bool) (total, rows int, err error) {
	add := func(v []byte) {
		n, perr := strconv.Atoi(string(v))
		err = errors.Join(err, perr)
		total += n
		rows++
	}
	if byScan {
		serr := r.Scan(background, []byte("acct"), []byte("accu"), 0, func(_, v []byte) bool {
			add(v)
			return true
		})
		return total, rows, errors.Join(err, serr)
	}
	for i := range accounts {
		values, gerr := r.Get(background, account(i))
		if gerr != nil {
			return 0, 0, gerr
		}
		add(values[0])
	}
	return total, rows, err
}

func deposit(t *testing.T, s kv.Store) {
	update(t, s, func(x kv.Txn) error {
		for i := range accounts {
			x.Put(account(i), fmt.Append(nil, balance))
		}
		return nil
	})
}

// transfer moves money between two accounts that r draws.
func transfer(s kv.Store, r *rand.Rand) error {
	from, to, n := r.IntN(accounts), r.IntN(accounts), r.IntN(20)
	if from == to {
		return nil
	}
	_, err := s.Update(background, kv.OpID{}, func(x kv.Txn) error {
		values, err := x.Get(background, account(from), account(to))
		if err != nil {
			return err
		}
		a, err1 := strconv.Atoi(string(values[0]))
		b, err2 := strconv.Atoi(string(values[1]))
		x.Put(account(from), fmt.Append(nil, a-n))
		x.Put(account(to), fmt.Append(nil, b+n))
		return errors.Join(err1, err2)
	})
	return err
}

// testTransfers keeps the sum of all accounts through concurrent transfers, in every snapshot.
func testTransfers(t *testing.T, s kv.Store) {
	deposit(t, s)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range transfers {
				if err := transfer(s, r); err != nil {
					t.Errorf("worker %d, transfer %d: %v", w, i, err)
					return
				}
				if i%10 != 0 {
					continue
				}
				err := s.View(background, func(r kv.Reader) error { return checkSum(r, i%20 == 0) })
				if err != nil {
					t.Errorf("worker %d, after transfer %d: %v", w, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(r kv.Reader) {
		if err := checkSum(r, true); err != nil {
			t.Error(err)
		}
	})
}

func checkSum(r kv.Reader, byScan bool) error {
	total, rows, err := sum(r, byScan)
	if err == nil && (total != accounts*balance || rows != accounts) {
		err = fmt.Errorf("revision %d: %d in %d accounts (by scan: %v), want %d in %d",
			r.Rev(), total, rows, byScan, accounts*balance, accounts)
	}
	return err
}

// testReaders: all keys are written together again and again; no snapshot may show two states.
func testReaders(t *testing.T, s kv.Store) {
	const keys, rounds = 8, 300
	write := func(i int) {
		update(t, s, func(x kv.Txn) error {
			for k := range keys {
				if (i+k)%5 == 0 {
					x.Delete(fmt.Appendf(nil, "gone%d", k))
				} else {
					x.Put(fmt.Appendf(nil, "gone%d", k), []byte("v"))
				}
				x.Put(fmt.Appendf(nil, "key%d", k), fmt.Append(nil, i))
			}
			return nil
		})
	}
	write(0)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.View(background, sameState); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := 1; i < rounds; i++ {
		write(i)
	}
	close(stop)
	wg.Wait()
}

func sameState(r kv.Reader) error {
	first := ""
	var bad error
	err := r.Scan(background, []byte("key"), []byte("kez"), 0, func(k, v []byte) bool {
		if first == "" {
			first = string(v)
		}
		if string(v) != first {
			bad = fmt.Errorf("revision %d: %s is of round %s, the first key of %s", r.Rev(), k, v, first)
		}
		return bad == nil
	})
	if err != nil || bad != nil {
		return errors.Join(err, bad)
	}
	values, err := r.Get(background, []byte("key7"))
	if err == nil && string(values[0]) != first {
		err = fmt.Errorf("revision %d: get sees round %s, scan %s", r.Rev(), values[0], first)
	}
	return err
}
