package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples shows a call or two of each command, by its path below kmsfs. A test parses each.
var examples = map[string]string{
	"": `kmsfs init /srv/vault --keystore /srv/keys --key-file /etc/vault.key
kmsfs mount /srv/vault /mnt/vault --keystore /srv/keys
kmsfs status
kmsfs umount /mnt/vault`,

	"init": `kmsfs init /srv/vault --keystore /srv/keys --key-file /etc/vault.key
kmsfs init /srv/vault --token pkcs11 --pkcs11-module /usr/lib/softhsm/libsofthsm2.so --pkcs11-token vault --pin-file /etc/vault.pin`,
	"mount": `kmsfs mount /srv/vault /mnt/vault --keystore /srv/keys
kmsfs mount /srv/vault /mnt/vault -o ro,noexec`,
	"umount": "kmsfs umount /mnt/vault",
	"status": `kmsfs status
kmsfs status /mnt/vault --json`,
	"fsck": `kmsfs fsck /mnt/vault
kmsfs fsck /srv/vault --keystore /srv/keys --repair`,
	"rebuild": "kmsfs rebuild /srv/vault --keystore /srv/keys",
	"backup":  "kmsfs backup /mnt/vault /backup/vault",
	"restore": "kmsfs restore /backup/vault /srv/vault --keystore /srv/keys",

	"info":           "kmsfs info /mnt/vault/report.pdf",
	"import":         "kmsfs import /home/alice /mnt/vault/alice",
	"export":         "kmsfs export /mnt/vault/alice /home/alice",
	"shred":          "kmsfs shred /mnt/vault/old --yes",
	"policy set":     "kmsfs policy set /mnt/vault/projects projects.yaml",
	"policy show":    "kmsfs policy show /mnt/vault/projects",
	"policy edit":    "kmsfs policy edit /mnt/vault/projects",
	"policy rm":      "kmsfs policy rm /mnt/vault/projects --wait",
	"policy list":    "kmsfs policy list /mnt/vault",
	"policy check":   "kmsfs policy check /mnt/vault/projects projects.yaml --since 24h",
	"policy suggest": "kmsfs policy suggest /mnt/vault/projects",
	"lock":           "kmsfs lock /mnt/vault/projects",
	"unlock":         "kmsfs unlock /mnt/vault/projects",
	"explain": `kmsfs explain --last /mnt/vault
kmsfs explain --action Read --user alice /mnt/vault/projects/plan.odt`,

	"rewrap": `kmsfs rewrap /mnt/vault
kmsfs rewrap /mnt/vault --all --to alias/new --deep --wait`,
	"reencrypt":   "kmsfs reencrypt /mnt/vault --cpu 25% --wait",
	"jobs":        "kmsfs jobs",
	"jobs wait":   "kmsfs jobs wait /mnt/vault 3",
	"jobs pause":  "kmsfs jobs pause /mnt/vault 3",
	"jobs resume": "kmsfs jobs resume /mnt/vault 3",
	"jobs cancel": "kmsfs jobs cancel /mnt/vault 3",
	"census": `kmsfs census /mnt/vault --newest
kmsfs census /mnt/vault --before 2026-01-31T12:00:00Z`,

	"keystore init":    "kmsfs keystore init --keystore /srv/keys --key-file /etc/vault.key",
	"keystore status":  "kmsfs keystore status --keystore /srv/keys",
	"keystore unlock":  "kmsfs keystore unlock --keystore /srv/keys",
	"keystore lock":    "kmsfs keystore lock --keystore /srv/keys",
	"keystore passwd":  "kmsfs keystore passwd --keystore /srv/keys --key-file /etc/vault.key --new-key-file /etc/vault2.key",
	"keystore backup":  "kmsfs keystore backup /backup/keys --keystore /srv/keys",
	"keystore restore": "kmsfs keystore restore /backup/keys --keystore /srv/keys --key-file /etc/vault.key",
	"keystore migrate": "kmsfs keystore migrate --pkcs11-module /usr/lib/softhsm/libsofthsm2.so --pkcs11-token vault --new-pin-file /etc/vault.pin --keystore /srv/keys",
	"key create": `kmsfs key create --alias projects --description "what the staff works on"
kmsfs key create --alias imported --origin EXTERNAL`,
	"key list":              "kmsfs key list --keystore /srv/keys",
	"key describe":          "kmsfs key describe alias/vault",
	"key enable":            "kmsfs key enable alias/vault",
	"key disable":           "kmsfs key disable alias/vault",
	"key import":            "kmsfs key import alias/imported --material-file material.bin",
	"key import-parameters": "kmsfs key import-parameters alias/imported --public-key wrapping.der --token-file token.bin",
	"key delete-material":   "kmsfs key delete-material alias/imported",
	"key rotate": `kmsfs key rotate alias/vault
kmsfs key rotate alias/vault --every 365`,
	"key delete": `kmsfs key delete alias/old --days 30
kmsfs key delete alias/old --cancel`,
	"key destroy-version": `kmsfs key destroy-version alias/vault 1
kmsfs key destroy-version alias/vault 1 --lose /srv/former`,
	"key policy get":  "kmsfs key policy get alias/vault",
	"key policy put":  "kmsfs key policy put alias/vault policy.json",
	"key policy edit": "kmsfs key policy edit alias/vault",
	"alias create":    "kmsfs alias create projects alias/vault",
	"alias update":    "kmsfs alias update projects alias/new",
	"alias delete":    "kmsfs alias delete projects",
	"alias list":      "kmsfs alias list",
	"grant create":    "kmsfs grant create alias/vault --grantee arn:aws:iam::000000000000:unix/user/alice --operations Decrypt --expires 24h",
	"grant list":      "kmsfs grant list alias/vault",
	"grant revoke":    "kmsfs grant revoke alias/vault GRANT-ID",
	"grant use":       "kmsfs grant use - /mnt/vault",

	"identity create":     "kmsfs identity create backup --role operator --out backup.json",
	"identity list":       "kmsfs identity list",
	"identity disable":    "kmsfs identity disable backup",
	"identity enable":     "kmsfs identity enable backup",
	"identity delete":     "kmsfs identity delete backup",
	"identity rotate-key": "kmsfs identity rotate-key backup --out backup-2.json",
	"identity map":        "kmsfs identity map uid:1000 backup",
	"identity policy put": "kmsfs identity policy put backup nightly nightly.json",
	"identity policy get": "kmsfs identity policy get backup nightly",
	"identity policy rm":  "kmsfs identity policy rm backup nightly",
	"approval on":         "kmsfs approval on --approver alice --approver bob",
	"approval off":        "kmsfs approval off",
	"approval status":     "kmsfs approval status",
	"approval list":       "kmsfs approval list",
	"approval show":       "kmsfs approval show REQUEST-ID",
	"approval approve":    "kmsfs approval approve REQUEST-ID --identity alice.json",
	"approval reject":     "kmsfs approval reject REQUEST-ID",
	"break-glass setup":   "kmsfs break-glass setup --keystore /srv/keys",
	"break-glass open":    `kmsfs break-glass open --reason "the administrators' identities are gone" --for 1h --out emergency.json`,
	"break-glass close":   "kmsfs break-glass close",
	"keyd": `kmsfs keyd --keystore /srv/keys --foreground
kmsfs keyd --keystore /srv/keys --listen 127.0.0.1:8443`,

	"audit verify": `kmsfs audit verify --keystore /srv/keys
kmsfs audit verify /backup/audit --public-key head.txt --head head.txt`,
	"audit head": "kmsfs audit head --keystore /srv/keys",
	"audit query": `kmsfs audit query --path /projects --decision deny --since 24h
kmsfs audit query --event Decrypt --principal arn:aws:iam::000000000000:unix/user/alice --json`,
	"audit tail":        "kmsfs audit tail -n 20 -f",
	"audit export":      "kmsfs audit export --format cef --since 24h",
	"audit prove":       "kmsfs audit prove EVENT-ID",
	"audit archive":     "kmsfs audit archive --to /backup/audit --older-than 720h",
	"audit accept":      `kmsfs audit accept keyd --reason "the disk with the log was lost"`,
	"audit configure":   "kmsfs audit configure --sink required:syslog --auditor auditor.pub",
	"audit auditor-key": "kmsfs audit auditor-key --out auditor.key",

	"version":    "kmsfs version --json",
	"completion": "kmsfs completion bash",
	"man":        "kmsfs man",
}

// addExamples puts the examples into a command and all below.
func addExamples(cmd *cobra.Command) {
	path := strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()), " ")
	cmd.Example = examples[path]
	for _, sub := range cmd.Commands() {
		addExamples(sub)
	}
}
