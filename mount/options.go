package mount

import (
	"fmt"
	"strings"

	"github.com/kmsfs/kmsfs/fs/transport"
)

// Options is what `-o` of a mount says; the zero value is the default: read-write, nosuid, nodev, relatime.
type Options struct {
	ReadOnly   bool           `json:"ro,omitempty"`
	AllowOther bool           `json:"allow_other,omitempty"`
	Suid       bool           `json:"suid,omitempty"`
	Dev        bool           `json:"dev,omitempty"`
	NoExec     bool           `json:"noexec,omitempty"`
	NoAtime    bool           `json:"noatime,omitempty"`
	FSName     string         `json:"fsname,omitempty"`    // the source column of /proc/mounts; empty: the volume's path
	Transport  transport.Kind `json:"transport,omitempty"` // of requests: device, io_uring; empty: io_uring where the kernel has it switched on
	Idle       transport.Idle `json:"idle,omitempty"`      // what idle processors do while requests come quickly: poll, halt; empty: poll where that is known to pay
}

// optionHelp is what an unknown option is answered with.
const optionHelp = "known are ro, rw, allow_other, suid, nosuid, dev, nodev, exec, noexec, atime, noatime, relatime, default_permissions, fsname=NAME, transport=auto|device|io_uring, idle=auto|poll|halt"

// ParseOptions adds a comma-separated list, as mount(8) takes it, to o. Later words win. ErrUsage names an unknown one.
func (o *Options) ParseOptions(list string) error {
	for word := range strings.SplitSeq(list, ",") {
		key, value, hasValue := strings.Cut(word, "=")
		if hasValue != (key == "fsname" || key == "transport" || key == "idle") {
			return fmt.Errorf("%w: mount option %q: %s", ErrUsage, word, optionHelp)
		}
		switch key {
		case "":
		case "ro":
			o.ReadOnly = true
		case "rw":
			o.ReadOnly = false
		case "allow_other":
			o.AllowOther = true
		case "suid":
			o.Suid = true
		case "nosuid":
			o.Suid = false
		case "dev":
			o.Dev = true
		case "nodev":
			o.Dev = false
		case "noexec":
			o.NoExec = true
		case "exec":
			o.NoExec = false
		case "noatime":
			o.NoAtime = true
		case "atime", "relatime":
			o.NoAtime = false
		case "default_permissions": // always on
		case "fsname":
			if value == "" || len(value) > 255 || strings.ContainsAny(value, "\n\x00") {
				return fmt.Errorf("%w: mount option fsname needs a name of 1 to 255 bytes", ErrUsage)
			}
			o.FSName = value
		case "transport":
			kind, err := transport.ParseKind(value)
			if err != nil {
				return fmt.Errorf("%w: mount option %w", ErrUsage, err)
			}
			o.Transport = kind
		case "idle":
			idle, err := transport.ParseIdle(value)
			if err != nil {
				return fmt.Errorf("%w: mount option %w", ErrUsage, err)
			}
			o.Idle = idle
		default:
			return fmt.Errorf("%w: unknown mount option %q: %s", ErrUsage, word, optionHelp)
		}
	}
	return nil
}
