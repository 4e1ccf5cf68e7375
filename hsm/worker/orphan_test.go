package worker_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/hsm/worker"
)

// orphanEnv makes the test binary a parent that starts a worker, says its pid and
// waits to be killed.
const orphanEnv = "KMSFS_TEST_ORPHAN"

func orphanParent() {
	f := strings.Split(os.Getenv(orphanEnv), "\n")
	pin, err := locked.FromBytes([]byte(f[3]))
	if err != nil {
		panic(err)
	}
	c, err := worker.Start(context.Background(), worker.Config{Binary: f[0], Module: f[1], TokenLabel: f[2], PIN: pin, Initialize: true})
	if err != nil {
		panic(err)
	}
	fmt.Println(c.PID())
	select {}
}

// TestParentKilled: no worker is left behind when its parent is killed.
func TestParentKilled(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), orphanEnv+"="+strings.Join([]string{binary(t), s.Module, s.Label, s.PIN}, "\n"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		err = cmd.Process.Kill()
	}
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	hsmtest.Eventually(t, func() error { return zombieOrGone(pid) })
}

// zombieOrGone also takes a dead process that nobody has waited for: in a
// container there may be no init that does.
func zombieOrGone(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, rest, ok := strings.Cut(string(stat), ") "); ok && strings.HasPrefix(rest, "Z") {
		return nil
	}
	return fmt.Errorf("process %d lives: %s", pid, stat)
}
