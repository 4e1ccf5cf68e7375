package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// digests prints type, mode, owner, size, time, link target and content digest of everything below a directory.
const digests = `
cd "$1"
find . -mindepth 1 -printf '%P|%y|%m|%U|%G|%n|%T@|%l\n' | LC_ALL=C sort
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum
`

// summary returns digests of a tree, times and owners included.
func summary(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command("sh", "-euc", digests, "sh", dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("digests of %s: %v", dir, err)
	}
	return string(out)
}

// sameTree compares two digests, and names the first difference.
func sameTree(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s: got  %s\nwant %s", what, g[i], w[i])
		}
	}
	t.Fatalf("%s: %d lines, want %d", what, len(g), len(w))
}

func goRoot(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(sh(t, "/", "go env GOROOT"))
}

// TestCopyTree copies the Go source tree by cp, and a part of it by tar and rsync, and compares before and after a remount.
func TestCopyTree(t *testing.T) {
	mounttest.NeedProgram(t, "rsync", "tar")
	r := newRig(t)
	src := filepath.Join(goRoot(t), "src")
	part := filepath.Join(src, "crypto")
	if mounttest.Long() {
		part = src
	}
	want, wantPart := summary(t, src), summary(t, part)
	r.Init()
	r.Mount()
	sh(t, r.Mnt, `cp -a "$SRC" cp`, "SRC="+src)
	sameTree(t, "after cp -a", summary(t, r.Mnt+"/cp"), want)
	sh(t, r.Mnt, `tar cf src.tar -C "$SRC" . && mkdir tar && tar xf src.tar -C tar && tar df src.tar -C tar`, "SRC="+part)
	sameTree(t, "after tar", summary(t, r.Mnt+"/tar"), wantPart)
	sh(t, r.Mnt, `rsync -aHAX "$SRC/" rsync/`, "SRC="+part)
	r.Remount()
	sameTree(t, "cp after remount", summary(t, r.Mnt+"/cp"), want)
	sameTree(t, "tar after remount", summary(t, r.Mnt+"/tar"), wantPart)
	sameTree(t, "rsync after remount", summary(t, r.Mnt+"/rsync"), wantPart)
	if out := sh(t, r.Mnt, `tar df src.tar -C tar && rsync -aHAXcni --delete tar/ rsync/`); out != "" {
		t.Fatalf("rsync sees differences: %s", out)
	}
	r.Fsck()
	sh(t, r.Mnt, "rm -rf cp tar rsync src.tar")
	r.Umount()
	r.Fsck()
	if left := sh(t, r.Volume, "find objects -type f | wc -l"); strings.TrimSpace(left) != "0" {
		t.Fatalf("%s objects are left of an empty volume", strings.TrimSpace(left))
	}
}

// TestRsyncAttributes carries hard links, symbolic links, ACLs and extended attributes.
func TestRsyncAttributes(t *testing.T) {
	mounttest.NeedProgram(t, "rsync", "setfattr", "setfacl", "getfacl")
	r := newRig(t)
	r.Init()
	r.Mount()
	sh(t, r.Mnt, `
mkdir -p a/b && cd a
echo one > f && ln f hard && ln -s f soft && ln -s /nowhere/at/all dangling && mkfifo fifo
setfattr -n user.colour -v blue f && setfattr -n user.empty b
setfacl -m u:12345:rw f && setfacl -d -m g:54321:rx b && touch b/inherits
truncate -s 3M sparse && printf x | dd of=sparse bs=1 seek=2000000 conv=notrunc status=none
chmod 1777 b && chmod 2750 b
cd .. && rsync -aHAXS a/ copy/ && rsync -aHAXS --modify-window=-1 a/ copy/ # one round alone misses fractions of a directory's time, on ext4 too
`)
	dump := `cd "$1"; find . | LC_ALL=C sort | while read -r f; do getfattr -hdm - "$f"; [ -h "$f" ] || getfacl -pn "$f"; done; stat -c '%n %h %b' f hard; readlink soft dangling`
	show := func(dir string) string {
		out, err := exec.Command("sh", "-euc", dump, "sh", dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	want := summary(t, r.Mnt+"/a") + show(r.Mnt+"/a")
	sameTree(t, "copy", summary(t, r.Mnt+"/copy")+show(r.Mnt+"/copy"), want)
	r.Remount()
	sameTree(t, "original after remount", summary(t, r.Mnt+"/a")+show(r.Mnt+"/a"), want)
	sameTree(t, "copy after remount", summary(t, r.Mnt+"/copy")+show(r.Mnt+"/copy"), want)
	r.Fsck()
}

// compressor is a small program on the module that TestGoBuild builds.
const compressor = `package main

import (
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

func main() {
	w, err := zstd.NewWriter(os.Stdout)
	if err == nil {
		_, err = io.Copy(w, os.Stdin)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		os.Exit(1)
	}
}
`

// TestGoBuild builds a real module inside the mount, with the build cache in it as well, and runs what was built.
func TestGoBuild(t *testing.T) {
	r := newRig(t)
	module := strings.TrimSpace(sh(t, "../../..", "go list -m -f '{{.Dir}}' github.com/klauspost/compress"))
	r.Init()
	r.Mount()
	sh(t, r.Mnt, `cp -r "$MODULE" module && chmod -R u+w module`, "MODULE="+module)
	build := `go build ./zstd/... ./flate ./huff0 ./s2 && mkdir -p tool && printf '%s' "$MAIN" > tool/main.go && go build -o ../tool ./tool`
	env := []string{"GOCACHE=" + r.Mnt + "/cache", "GOFLAGS=-mod=mod -buildvcs=false", "GOPROXY=off", "GOWORK=off", "CGO_ENABLED=0", "GOTMPDIR=" + r.Mnt}
	sh(t, r.Mnt+"/module", build, append(env, "MAIN="+compressor)...)
	sum := sh(t, r.Mnt, "sha256sum tool")
	r.Remount()
	if again := sh(t, r.Mnt, "sha256sum tool"); again != sum {
		t.Fatalf("the program changed: %s, was %s", again, sum)
	}
	sh(t, r.Mnt, `./tool < tool > out.zst && test -s out.zst`)
	sh(t, r.Mnt+"/module", "go build -x ./zstd/... 2>&1 | { ! grep -q 'compile -o'; }", env...) // all of it is in the cache
	r.Fsck()
}

// TestGit clones, commits, packs and checks.
func TestGit(t *testing.T) {
	mounttest.NeedProgram(t, "git")
	r := newRig(t)
	r.Init()
	r.Mount()
	env := []string{"HOME=" + r.Dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b"}
	sh(t, r.Dir, `
git init -q origin && cd origin
cp -r "$SRC" fmt && git add -A && git commit -qm one
for i in 1 2 3 4 5 6 7 8 9 10; do echo "// $i" >> fmt/print.go; git commit -qam "change $i"; done
git tag v1
`, append(env, "SRC="+filepath.Join(goRoot(t), "src", "fmt"))...)
	sh(t, r.Mnt, `
git clone -q --no-hardlinks "$ORIGIN" clone && cd clone
git fsck --full --strict
for i in 1 2 3 4 5; do echo "$i" > "file$i"; git add -A; git commit -qm "mine $i"; git branch "b$i"; done
git gc -q --prune=now && git fsck --full
git checkout -q v1 && git checkout -q -
git worktree add -q ../tree b3
git clone -q --mirror . ../mirror.git
`, append(env, "ORIGIN="+filepath.Join(r.Dir, "origin"))...)
	state := `git rev-parse HEAD b1 b5 v1 && git log --format=%H | sha256sum && git status --porcelain && git diff v1 --stat | tail -1`
	want := sh(t, r.Mnt+"/clone", state, env...)
	r.Remount()
	if got := sh(t, r.Mnt+"/clone", "git fsck --full && "+state, env...); got != want {
		t.Fatalf("after remount:\n%s\nwant:\n%s", got, want)
	}
	sh(t, r.Mnt+"/mirror.git", "git fsck --full && git gc -q --aggressive && git fsck --full", env...)
	sh(t, r.Mnt+"/tree", "git status --porcelain && test -f file3", env...)
	r.Fsck()
}

// TestFio writes with checksums, sequentially and at random, and verifies before and after a remount.
func TestFio(t *testing.T) {
	mounttest.NeedProgram(t, "fio")
	r := newRig(t)
	r.Init()
	r.Mount()
	size := "24M"
	if mounttest.Long() {
		size = "512M"
	}
	jobs := []struct{ name, options string }{
		{"seq", "--rw=write --bs=128k"},
		{"rand", "--rw=randwrite --bs=4k"},
		{"odd", "--rw=randwrite --bsrange=512-64k --bs_unaligned=1"},
		{"direct", "--rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8"},
		{"mmap", "--rw=randwrite --bs=4k --ioengine=mmap"},
		{"fsync", "--rw=randwrite --bs=4k --fsync=32 --size=4M"},
	}
	for _, j := range jobs {
		sh(t, r.Mnt, `fio --name=`+j.name+` --filename=`+j.name+` --size=`+size+` --verify=crc32c --do_verify=1 --verify_fatal=1 --randseed=7 `+j.options+` >/dev/null`)
	}
	want := sh(t, r.Mnt, "sha256sum *")
	r.Remount()
	if got := sh(t, r.Mnt, "sha256sum *"); got != want {
		t.Fatalf("after remount:\n%s\nwant:\n%s", got, want)
	}
	for _, j := range jobs {
		sh(t, r.Mnt, `fio --name=`+j.name+` --filename=`+j.name+` --size=`+size+` --verify=crc32c --verify_only=1 --verify_fatal=1 --randseed=7 `+j.options+` >/dev/null`)
	}
	r.Fsck()
}

// TestSQLite runs a database with each journal mode, with writers side by side, and checks it after a remount.
func TestSQLite(t *testing.T) {
	mounttest.NeedProgram(t, "sqlite3")
	r := newRig(t)
	r.Init()
	r.Mount()
	for _, mode := range []string{"wal", "delete", "truncate", "persist"} {
		db := mode + ".db"
		sh(t, r.Mnt, `
sqlite3 $DB "pragma journal_mode=$MODE; create table t(id integer primary key, who int, x text, y blob)" >/dev/null
writer() {
  for i in 1 2 3 4 5 6 7 8; do
    sqlite3 -cmd ".timeout 60000" $DB "begin immediate; with recursive n(i) as (select 1 union all select i+1 from n where i < 200) insert into t(who, x, y) select $1, hex(randomblob(20)), randomblob(300) from n; commit"
  done
}
writer 1 & one=$!; writer 2 & two=$!; wait $one; wait $two
sqlite3 $DB "update t set x = 'changed' where id % 7 = 0; delete from t where id % 11 = 0; vacuum"
`, "DB="+db, "MODE="+mode)
	}
	state := `for db in *.db; do sqlite3 $db "pragma integrity_check; select count(*), sum(id), sum(length(y)), sum(x = 'changed') from t; select hex(y) from t order by id" | sha256sum; done`
	want := sh(t, r.Mnt, state)
	r.Remount()
	if got := sh(t, r.Mnt, state); got != want {
		t.Fatalf("after remount:\n%s\nwant:\n%s", got, want)
	}
	for _, mode := range []string{"wal", "delete", "truncate", "persist"} {
		out := sh(t, r.Mnt, `sqlite3 $DB "pragma integrity_check; select count(*) from t"`, "DB="+mode+".db")
		if out != "ok\n2910\n" { // 3200 rows less every eleventh
			t.Fatalf("%s: %s", mode, out)
		}
	}
	r.Fsck()
}

// TestStressNG runs stress-ng's filesystem workers, which verify what they read.
func TestStressNG(t *testing.T) {
	mounttest.NeedProgram(t, "stress-ng")
	r := newRig(t)
	r.Init()
	r.Mount()
	for _, job := range []string{"hdd", "rename", "link", "symlink", "dentry", "seek", "fallocate", "chmod", "utime", "xattr"} {
		sh(t, r.Mnt, `stress-ng --`+job+` 2 --`+job+`-ops 200 --hdd-bytes 8m --fallocate-bytes 8m --seek-size 8m --timeout 4s --verify --temp-path . --quiet`)
	}
	if left, err := os.ReadDir(r.Mnt); err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v %v", left, err)
	}
	r.Remount()
	r.Fsck()
}

// TestTimes makes files in ways that change their times within one tick of the kernel's clock; what was seen is seen again after a remount.
func TestTimes(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount()
	sh(t, r.Mnt, `
for i in $(seq 100); do
  truncate -s 300000 a$i; printf x | dd of=a$i bs=1 seek=200000 conv=notrunc status=none
  echo one > b$i; echo two >> b$i; ln b$i c$i; chmod 600 b$i
  cp -p a$i d$i; mv d$i e$i; mkdir f$i; touch -d 2001-02-03T04:05:06.789 f$i
done`)
	state := `stat -c '%n %.9Y %.9Z %.9W %s %a %h' * | LC_ALL=C sort`
	want := sh(t, r.Mnt, state)
	r.Remount()
	sameTree(t, "times after remount", sh(t, r.Mnt, state), want)
}
