package wire

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
)

// TestShapes sends every record through the wire and back.
func TestShapes(t *testing.T) {
	at := time.UnixMilli(1700000000123).UTC()
	md := keymgr.KeyMetadata{KeyID: "id", ARN: "arn", Description: "d", State: "Disabled", Manager: "CUSTOMER", Origin: "AWS_KMS", CreationDate: at,
		Versions: []keymgr.VersionInfo{{Number: 1, MaterialID: "m1", Created: at}, {Number: 2, MaterialID: "m2", Created: at}}, Aliases: []string{"alias/x"}}
	var key KeyMetadataResponse
	through(t, KeyMetadataResponse{FromMetadata(md)}, &key)
	if got := key.KeyMetadata.Metadata(); !reflect.DeepEqual(got, md) {
		t.Errorf("metadata %+v", got)
	}
	v := keymgr.VolumeRecord{ID: blockcrypt.VolumeID{1, 2}, Name: "n", Path: "/p", CMK: "arn", Superblock: []byte{1}, Created: at}
	var volume GetVolumeResponse
	through(t, GetVolumeResponse{FromVolume(v)}, &volume)
	if got, err := volume.Volume.Record(); err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("volume %+v %v", got, err)
	}
	a := keymgr.Anchor{Generation: 1 << 63, Sequence: 1<<64 - 1, Head: [16]byte{9}, Clean: true}
	var anchor AnchorRequest
	through(t, AnchorRequest{VolumeId: "v", Anchor: FromAnchor(a)}, &anchor)
	if got, err := anchor.Anchor.Anchor(); err != nil || got != a {
		t.Errorf("anchor %+v %v", got, err)
	}
	st := keymgr.Status{KeyStoreID: "id", Dir: "/d", Locked: true, Unlock: "pin", PID: 7, Started: at, Token: keymgr.TokenStatus{Kind: "pkcs11", Label: "l",
		Model: "m", Serial: "s", HSM: true, Error: "e"}, KeyUseLog: "/l", LogError: "e", Listen: "127.0.0.1:1", Volumes: []string{"a", "b"}, Backup: &keymgr.LastBackup{Time: at, Generation: 9, Changed: true}}
	var status StatusResponse
	through(t, FromStatus(st), &status)
	if got := status.Status(); !reflect.DeepEqual(got, st) {
		t.Errorf("status %+v", got)
	}
	for _, bad := range []string{"", "zz", "00000000000000000000000000000000", "01020000000000000000000000000000ff"} {
		if _, err := ParseVolumeID(bad); keymgr.Code(err) != "ValidationException" {
			t.Errorf("volume id %q: %v", bad, err)
		}
		if _, err := (Anchor{Head: bad[:len(bad)/2]}).Anchor(); keymgr.Code(err) != "ValidationException" {
			t.Errorf("head %q: %v", bad, err)
		}
	}
}

func through(t *testing.T, in, out any) {
	t.Helper()
	b, err := Encode(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := Decode(b, out); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
}

// TestAWSNames pins the members that AWS' clients read.
func TestAWSNames(t *testing.T) {
	b, err := Encode(KeyMetadataResponse{FromMetadata(keymgr.KeyMetadata{KeyID: "k", ARN: "a", State: "Enabled", Enabled: true, Manager: "CUSTOMER",
		Origin: "AWS_KMS", CreationDate: time.Unix(1700000000, 0), Versions: []keymgr.VersionInfo{{Number: 1, MaterialID: "m"}}})})
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ KeyMetadata map[string]any }
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"AWSAccountId": "000000000000", "Arn": "a", "CreationDate": 1.7e9, "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
		"Description": "", "Enabled": true, "EncryptionAlgorithms": []any{"SYMMETRIC_DEFAULT"}, "KeyId": "k", "KeyManager": "CUSTOMER",
		"KeySpec": "SYMMETRIC_DEFAULT", "KeyState": "Enabled", "KeyUsage": "ENCRYPT_DECRYPT", "MultiRegion": false, "Origin": "AWS_KMS", "CurrentKeyMaterialId": "m"} {
		if !reflect.DeepEqual(got.KeyMetadata[name], want) {
			t.Errorf("%s is %v, want %v", name, got.KeyMetadata[name], want)
		}
	}
	if b, err = Encode(ListKeysResponse{Keys: []KeyEntry{}}); err != nil || string(b) != `{"Keys":[],"Truncated":false}` {
		t.Errorf("%s %v", b, err)
	}
}
