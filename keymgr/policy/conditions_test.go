package policy_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// conditionCase is a condition and a request. holds is "yes", "no", or "maybe": not for an Allow, but for a Deny.
type conditionCase struct {
	name      string
	condition string
	request   option
	holds     string
}

const (
	viaService = "kms:ViaService"
	fileDaemon = "kmsfs.local.amazonaws.com"
)

var stringCases = []conditionCase{
	{"StringEquals: equal", `"StringEquals": {"kms:ViaService": "kmsfs.local.amazonaws.com"}`, text(viaService, fileDaemon), "yes"},
	{"StringEquals: not equal", `"StringEquals": {"kms:ViaService": "s3.local.amazonaws.com"}`, text(viaService, fileDaemon), "no"},
	{"StringEquals: case matters", `"StringEquals": {"kms:ViaService": "KMSFS.local.amazonaws.com"}`, text(viaService, fileDaemon), "no"},
	{"StringEquals: one of a list", `"StringEquals": {"kms:ViaService": ["a", "kmsfs.local.amazonaws.com"]}`, text(viaService, fileDaemon), "yes"},
	{"StringEquals: none of a list", `"StringEquals": {"kms:ViaService": ["a", "b"]}`, text(viaService, fileDaemon), "no"},
	{"StringEquals: * is a star", `"StringEquals": {"kms:ViaService": "kmsfs.*"}`, text(viaService, fileDaemon), "no"},
	{"StringEquals: a star in the request", `"StringEquals": {"aws:UserAgent": "a*"}`, text("aws:UserAgent", "a*"), "yes"},
	{"StringEquals: empty text", `"StringEquals": {"aws:UserAgent": ""}`, text("aws:UserAgent", ""), "yes"},
	{"StringEquals: empty text and another", `"StringEquals": {"aws:UserAgent": ""}`, text("aws:UserAgent", "x"), "no"},
	{"StringEquals: a prefix is not equal", `"StringEquals": {"aws:UserAgent": "aws"}`, text("aws:UserAgent", "aws-cli"), "no"},
	{"StringEquals: a number as value", `"StringEquals": {"aws:UserAgent": 12}`, text("aws:UserAgent", "12"), "yes"},
	{"StringEquals: true as value", `"StringEquals": {"aws:UserAgent": true}`, text("aws:UserAgent", "true"), "yes"},
	{"StringEquals: beyond Latin-1 by escape", `"StringEquals": {"aws:UserAgent": "\u4e2d"}`, text("aws:UserAgent", "中"), "yes"},
	{"StringNotEquals: equal", `"StringNotEquals": {"kms:ViaService": "kmsfs.local.amazonaws.com"}`, text(viaService, fileDaemon), "no"},
	{"StringNotEquals: not equal", `"StringNotEquals": {"kms:ViaService": "s3"}`, text(viaService, fileDaemon), "yes"},
	{"StringNotEquals: one of a list", `"StringNotEquals": {"kms:ViaService": ["s3", "kmsfs.local.amazonaws.com"]}`, text(viaService, fileDaemon), "no"},
	{"StringNotEquals: none of a list", `"StringNotEquals": {"kms:ViaService": ["s3", "ebs"]}`, text(viaService, fileDaemon), "yes"},
	{"StringEqualsIgnoreCase: other case", `"StringEqualsIgnoreCase": {"kms:ViaService": "KMSFS.Local.AmazonAWS.com"}`, text(viaService, fileDaemon), "yes"},
	{"StringEqualsIgnoreCase: other case beyond ASCII", `"StringEqualsIgnoreCase": {"aws:UserAgent": "Ä"}`, text("aws:UserAgent", "ä"), "yes"},
	{"StringEqualsIgnoreCase: another text", `"StringEqualsIgnoreCase": {"kms:ViaService": "s3"}`, text(viaService, fileDaemon), "no"},
	{"StringEqualsIgnoreCase: * is a star", `"StringEqualsIgnoreCase": {"kms:ViaService": "*"}`, text(viaService, fileDaemon), "no"},
	{"StringNotEqualsIgnoreCase: other case", `"StringNotEqualsIgnoreCase": {"kms:ViaService": "KMSFS.LOCAL.amazonaws.com"}`, text(viaService, fileDaemon), "no"},
	{"StringNotEqualsIgnoreCase: another text", `"StringNotEqualsIgnoreCase": {"kms:ViaService": "s3"}`, text(viaService, fileDaemon), "yes"},
	{"StringLike: star at the end", `"StringLike": {"kms:ViaService": "kmsfs.*"}`, text(viaService, fileDaemon), "yes"},
	{"StringLike: star at the start", `"StringLike": {"kms:ViaService": "*.com"}`, text(viaService, fileDaemon), "yes"},
	{"StringLike: star in the middle", `"StringLike": {"kms:ViaService": "kmsfs*com"}`, text(viaService, fileDaemon), "yes"},
	{"StringLike: stars that must backtrack", `"StringLike": {"aws:UserAgent": "*ab*abc"}`, text("aws:UserAgent", "ababababc"), "yes"},
	{"StringLike: star for nothing", `"StringLike": {"aws:UserAgent": "a*"}`, text("aws:UserAgent", "a"), "yes"},
	{"StringLike: star alone, empty text", `"StringLike": {"aws:UserAgent": "*"}`, text("aws:UserAgent", ""), "yes"},
	{"StringLike: star crosses slashes and colons", `"StringLike": {"kmsfs:Path": "/a/*z"}`, text("kmsfs:Path", "/a/b:c/d/z"), "yes"},
	{"StringLike: question mark", `"StringLike": {"aws:UserAgent": "a?c"}`, text("aws:UserAgent", "abc"), "yes"},
	{"StringLike: question mark is one character", `"StringLike": {"aws:UserAgent": "a?c"}`, text("aws:UserAgent", "ac"), "no"},
	{"StringLike: question mark for a character of four bytes", `"StringLike": {"aws:UserAgent": "a?c"}`, text("aws:UserAgent", "a😀c"), "yes"},
	{"StringLike: a character is not taken apart", `"StringLike": {"aws:UserAgent": "*???"}`, text("aws:UserAgent", "😀"), "no"},
	{"StringLike: question mark for a byte that is no character", `"StringLike": {"kmsfs:Path": "/?"}`, text("kmsfs:Path", "/\xff"), "yes"},
	{"StringLike: a byte that is no character is not U+FFFD", `"StringLike": {"kmsfs:Path": "/\ufffd"}`, text("kmsfs:Path", "/\xff"), "no"},
	{"StringLike: case matters", `"StringLike": {"kms:ViaService": "KMSFS.*"}`, text(viaService, fileDaemon), "no"},
	{"StringLike: the whole text", `"StringLike": {"kms:ViaService": "local"}`, text(viaService, fileDaemon), "no"},
	{"StringLike: on an ARN, stars cross fields", `"StringLike": {"aws:PrincipalArn": "arn:*alice"}`, with(), "yes"},
	{"StringNotLike: matches", `"StringNotLike": {"kms:ViaService": "kmsfs.*"}`, text(viaService, fileDaemon), "no"},
	{"StringNotLike: matches not", `"StringNotLike": {"kms:ViaService": "s3.*"}`, text(viaService, fileDaemon), "yes"},
	{"StringNotLike: matches one", `"StringNotLike": {"kms:ViaService": ["s3.*", "*local*"]}`, text(viaService, fileDaemon), "no"},
}

const windowDays = "kms:ScheduleKeyDeletionPendingWindowInDays"

var numberCases = []conditionCase{
	{"NumericEquals: equal", `"NumericEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": "7"}`, number(windowDays, 7), "yes"},
	{"NumericEquals: bare number", `"NumericEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": 7}`, number(windowDays, 7), "yes"},
	{"NumericEquals: not equal", `"NumericEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": "8"}`, number(windowDays, 7), "no"},
	{"NumericEquals: by value, not by text", `"NumericEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": "7.00"}`, number(windowDays, 7), "yes"},
	{"NumericEquals: leading zero", `"NumericEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": "007"}`, number(windowDays, 7), "yes"},
	{"NumericEquals: one of a list", `"NumericEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": [1, 7]}`, number(windowDays, 7), "yes"},
	{"NumericEquals: beyond 2^53", `"NumericEquals": {"kms:ValidTo": "9007199254740993"}`, number("kms:ValidTo", 9007199254740992), "no"},
	{"NumericNotEquals: equal", `"NumericNotEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": "7"}`, number(windowDays, 7), "no"},
	{"NumericNotEquals: not equal", `"NumericNotEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": "8"}`, number(windowDays, 7), "yes"},
	{"NumericNotEquals: one of a list", `"NumericNotEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": [8, 7]}`, number(windowDays, 7), "no"},
	{"NumericLessThan: less", `"NumericLessThan": {"kms:RotationPeriodInDays": "100"}`, number("kms:RotationPeriodInDays", 99), "yes"},
	{"NumericLessThan: equal", `"NumericLessThan": {"kms:RotationPeriodInDays": "100"}`, number("kms:RotationPeriodInDays", 100), "no"},
	{"NumericLessThan: as numbers, not as text", `"NumericLessThan": {"kms:RotationPeriodInDays": "100"}`, number("kms:RotationPeriodInDays", 9), "yes"},
	{"NumericLessThan: a fraction", `"NumericLessThan": {"kms:RotationPeriodInDays": "99.5"}`, number("kms:RotationPeriodInDays", 99), "yes"},
	{"NumericLessThanEquals: equal", `"NumericLessThanEquals": {"kms:RotationPeriodInDays": "100"}`, number("kms:RotationPeriodInDays", 100), "yes"},
	{"NumericLessThanEquals: greater", `"NumericLessThanEquals": {"kms:RotationPeriodInDays": "100"}`, number("kms:RotationPeriodInDays", 101), "no"},
	{"NumericGreaterThan: greater", `"NumericGreaterThan": {"kms:RotationPeriodInDays": "100"}`, number("kms:RotationPeriodInDays", 101), "yes"},
	{"NumericGreaterThan: equal", `"NumericGreaterThan": {"kms:RotationPeriodInDays": "100"}`, number("kms:RotationPeriodInDays", 100), "no"},
	{"NumericGreaterThan: a negative bound", `"NumericGreaterThan": {"kmsfs:Uid": "-1"}`, by(unixAlice), "yes"},
	{"NumericGreaterThanEquals: equal", `"NumericGreaterThanEquals": {"kms:RotationPeriodInDays": "100"}`, number("kms:RotationPeriodInDays", 100), "yes"},
	{"NumericGreaterThanEquals: less", `"NumericGreaterThanEquals": {"kms:RotationPeriodInDays": "100"}`, number("kms:RotationPeriodInDays", 99), "no"},
	{"NumericEquals: the uid", `"NumericEquals": {"kmsfs:Uid": "1000"}`, by(unixAlice), "yes"},
	{"NumericEquals: uid of a caller from elsewhere", `"NumericEquals": {"kmsfs:Uid": "0"}`, by(alice), "no"},
	{"NumericGreaterThan: the time in seconds", `"NumericGreaterThan": {"aws:EpochTime": "1764000000"}`, at(noon), "yes"},
	{"two numeric operators: between", `"NumericGreaterThan": {"kms:RotationPeriodInDays": "90"}, "NumericLessThan": {"kms:RotationPeriodInDays": "365"}`, number("kms:RotationPeriodInDays", 100), "yes"},
	{"two numeric operators: outside", `"NumericGreaterThan": {"kms:RotationPeriodInDays": "90"}, "NumericLessThan": {"kms:RotationPeriodInDays": "365"}`, number("kms:RotationPeriodInDays", 365), "no"},
}

var dateCases = []conditionCase{
	{"DateEquals: the second", `"DateEquals": {"aws:CurrentTime": "2026-11-25T12:00:00Z"}`, with(), "yes"},
	{"DateEquals: fractions of the request are dropped", `"DateEquals": {"aws:CurrentTime": "2026-11-25T12:00:00Z"}`, at(noon.Add(999 * time.Millisecond)), "yes"},
	{"DateEquals: another zone", `"DateEquals": {"aws:CurrentTime": "2026-11-25T14:30:00+02:30"}`, with(), "yes"},
	{"DateEquals: seconds since 1970", `"DateEquals": {"aws:CurrentTime": "1795608000"}`, with(), "yes"},
	{"DateEquals: seconds since 1970, bare", `"DateEquals": {"aws:CurrentTime": 1795608000}`, with(), "yes"},
	{"DateEquals: the next second", `"DateEquals": {"aws:CurrentTime": "2026-11-25T12:00:01Z"}`, with(), "no"},
	{"DateNotEquals: equal", `"DateNotEquals": {"aws:CurrentTime": "2026-11-25T12:00:00Z"}`, with(), "no"},
	{"DateNotEquals: not equal", `"DateNotEquals": {"aws:CurrentTime": "2026-11-25T12:00:01Z"}`, with(), "yes"},
	{"DateLessThan: before", `"DateLessThan": {"aws:CurrentTime": "2026-11-26"}`, with(), "yes"},
	{"DateLessThan: equal", `"DateLessThan": {"aws:CurrentTime": "2026-11-25T12:00Z"}`, with(), "no"},
	{"DateLessThanEquals: equal", `"DateLessThanEquals": {"aws:CurrentTime": "2026-11-25T12:00Z"}`, with(), "yes"},
	{"DateLessThanEquals: after", `"DateLessThanEquals": {"aws:CurrentTime": "2026-11-25"}`, with(), "no"},
	{"DateGreaterThan: after the month", `"DateGreaterThan": {"aws:CurrentTime": "2026-11"}`, with(), "yes"},
	{"DateGreaterThan: equal", `"DateGreaterThan": {"aws:CurrentTime": "2026-11-25T12:00:00Z"}`, with(), "no"},
	{"DateGreaterThanEquals: equal", `"DateGreaterThanEquals": {"aws:CurrentTime": "2026-11-25T12:00:00.000Z"}`, with(), "yes"},
	{"DateGreaterThanEquals: a fraction later", `"DateGreaterThanEquals": {"aws:CurrentTime": "2026-11-25T12:00:00.5Z"}`, with(), "no"},
	{"Date on aws:EpochTime", `"DateGreaterThan": {"aws:EpochTime": "2026-01-01T00:00:00Z"}`, with(), "yes"},
	{"Date on kms:ValidTo", `"DateLessThan": {"kms:ValidTo": "2027-01-01T00:00:00Z"}`, number("kms:ValidTo", 1798675200), "yes"},
	{"office hours, within", `"DateGreaterThan": {"aws:CurrentTime": "2026-11-25T08:00:00Z"}, "DateLessThan": {"aws:CurrentTime": "2026-11-25T18:00:00Z"}`, with(), "yes"},
	{"no time in the request", `"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}`, at(time.Time{}), "no"},
}

var otherCases = []conditionCase{
	{"Bool: true", `"Bool": {"kms:GrantIsForAWSResource": "true"}`, flag("kms:GrantIsForAWSResource", true), "yes"},
	{"Bool: bare true", `"Bool": {"kms:GrantIsForAWSResource": true}`, flag("kms:GrantIsForAWSResource", true), "yes"},
	{"Bool: case of the value", `"Bool": {"kms:GrantIsForAWSResource": "TRUE"}`, flag("kms:GrantIsForAWSResource", true), "yes"},
	{"Bool: false", `"Bool": {"kms:GrantIsForAWSResource": "false"}`, flag("kms:GrantIsForAWSResource", true), "no"},
	{"Bool: false is false", `"Bool": {"aws:SecureTransport": "false"}`, flag("aws:SecureTransport", false), "yes"},
	{"Bool: either", `"Bool": {"aws:SecureTransport": ["true", "false"]}`, flag("aws:SecureTransport", false), "yes"},
	{"Bool: absent is not false", `"Bool": {"aws:SecureTransport": "false"}`, with(), "no"},
	{"Bool: ReEncryptOnSameKey", `"Bool": {"kms:ReEncryptOnSameKey": true}`, flag("kms:ReEncryptOnSameKey", true), "yes"},

	{"BinaryEquals: text", `"BinaryEquals": {"aws:UserAgent": "aGVsbG8="}`, text("aws:UserAgent", "hello"), "yes"},
	{"BinaryEquals: other text", `"BinaryEquals": {"aws:UserAgent": "aGVsbG8="}`, text("aws:UserAgent", "Hello"), "no"},
	{"BinaryEquals: one of a list", `"BinaryEquals": {"aws:UserAgent": ["AAAA", "aGVsbG8="]}`, text("aws:UserAgent", "hello"), "yes"},
	{"BinaryEquals: a digest", `"BinaryEquals": {"kmsfs:ProgramSha256": "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="}`, digest(bytes.Repeat([]byte{0xab}, 32)), "yes"},
	{"BinaryEquals: another digest", `"BinaryEquals": {"kmsfs:ProgramSha256": "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="}`, digest(bytes.Repeat([]byte{0xac}, 32)), "no"},
	{"BinaryEquals: absent", `"BinaryEquals": {"aws:UserAgent": ""}`, with(), "no"},
	{"BinaryEquals: empty", `"BinaryEquals": {"aws:UserAgent": ""}`, text("aws:UserAgent", ""), "yes"},
	{"StringEquals: a digest", `"StringEquals": {"kmsfs:ProgramSha256": "abababababababababababababababababababababababababababababababab"}`, digest(bytes.Repeat([]byte{0xab}, 32)), "yes"},
	{"StringEquals: a digest in capitals", `"StringEquals": {"kmsfs:ProgramSha256": "ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB"}`, digest(bytes.Repeat([]byte{0xab}, 32)), "yes"},
	{"StringLike: the start of a digest", `"StringLike": {"kmsfs:ProgramSha256": "ABAB*"}`, digest(bytes.Repeat([]byte{0xab}, 32)), "yes"},

	{"IpAddress: in the network", `"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}`, addr("10.1.2.3"), "yes"},
	{"IpAddress: outside", `"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}`, addr("11.1.2.3"), "no"},
	{"IpAddress: an address alone", `"IpAddress": {"aws:SourceIp": "127.0.0.1"}`, addr("127.0.0.1"), "yes"},
	{"IpAddress: its neighbour", `"IpAddress": {"aws:SourceIp": "127.0.0.1"}`, addr("127.0.0.2"), "no"},
	{"IpAddress: bits beyond the prefix", `"IpAddress": {"aws:SourceIp": "10.9.9.9/8"}`, addr("10.1.2.3"), "yes"},
	{"IpAddress: last of the network", `"IpAddress": {"aws:SourceIp": "10.0.0.0/30"}`, addr("10.0.0.3"), "yes"},
	{"IpAddress: first after the network", `"IpAddress": {"aws:SourceIp": "10.0.0.0/30"}`, addr("10.0.0.4"), "no"},
	{"IpAddress: v6", `"IpAddress": {"aws:SourceIp": "2001:db8::/32"}`, addr("2001:db8::1"), "yes"},
	{"IpAddress: v6 outside", `"IpAddress": {"aws:SourceIp": "2001:db8::/32"}`, addr("2001:db9::1"), "no"},
	{"IpAddress: v4 written as v6 in the request", `"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}`, addr("::ffff:10.1.2.3"), "yes"},
	{"IpAddress: v4 written as v6 in the policy", `"IpAddress": {"aws:SourceIp": "::ffff:10.0.0.0/104"}`, addr("10.1.2.3"), "yes"},
	{"IpAddress: v6 is not in all of v4", `"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}`, addr("2001:db8::1"), "no"},
	{"IpAddress: one of two networks", `"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "::1/128"]}`, addr("::1"), "yes"},
	{"IpAddress: no address (the Unix socket)", `"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}`, with(), "no"},
	{"NotIpAddress: in the network", `"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}`, addr("10.1.2.3"), "no"},
	{"NotIpAddress: outside", `"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}`, addr("11.1.2.3"), "yes"},
	{"NotIpAddress: in one of two", `"NotIpAddress": {"aws:SourceIp": ["11.0.0.0/8", "10.0.0.0/8"]}`, addr("10.1.2.3"), "no"},
	{"NotIpAddress: no address", `"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}`, with(), "yes"},

	{"ArnEquals: equal", `"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::000000000000:user/alice"}`, with(), "yes"},
	{"ArnEquals: wildcards work", `"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::*:user/*"}`, with(), "yes"},
	{"ArnLike: question mark", `"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::00000000000?:user/alice"}`, with(), "yes"},
	{"ArnLike: a star stays in its field", `"ArnLike": {"aws:PrincipalArn": "arn:*:user/alice:*:*:*"}`, with(), "no"},
	{"ArnLike: the last field has the rest", `"ArnLike": {"kms:EncryptionContext:aws:logs:arn": "arn:aws:logs:*:*:log-group:*"}`, context("aws:logs:arn", "arn:aws:logs:local:0:log-group:a:b"), "yes"},
	{"ArnLike: case matters", `"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/Alice"}`, with(), "no"},
	{"ArnLike: not an ARN in the request", `"ArnLike": {"kms:EncryptionContext:arn": "*:*:*:*:*:*"}`, context("arn", "a:b:c"), "no"},
	{"ArnLike: six fields that could be anything", `"ArnLike": {"kms:EncryptionContext:arn": "*:*:*:*:*:*"}`, context("arn", "a:b:c:d:e:f"), "yes"},
	{"ArnLike: a session is its role", `"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::000000000000:role/backup"}`, by(session), "yes"},
	{"ArnNotEquals: equal", `"ArnNotEquals": {"aws:PrincipalArn": "arn:aws:iam::000000000000:user/alice"}`, with(), "no"},
	{"ArnNotEquals: another", `"ArnNotEquals": {"aws:PrincipalArn": "arn:aws:iam::000000000000:user/bob"}`, with(), "yes"},
	{"ArnNotLike: matches one", `"ArnNotLike": {"aws:PrincipalArn": ["arn:aws:iam::*:user/b*", "arn:aws:iam::*:user/a*"]}`, with(), "no"},
	{"ArnNotLike: matches none", `"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}`, with(), "yes"},
	{"ArnNotLike: not an ARN in the request", `"ArnNotLike": {"kms:EncryptionContext:arn": "*:*:*:*:*:*"}`, context("arn", "x"), "yes"},
	{"ArnEquals: the grantee", `"ArnEquals": {"kms:GranteePrincipal": "arn:aws:iam::000000000000:unix/user/*"}`, text("kms:GranteePrincipal", iam+"unix/user/alice"), "yes"},
}

var absentCases = []conditionCase{
	{"absent: StringEquals", `"StringEquals": {"kms:ViaService": "x"}`, with(), "no"},
	{"absent: StringEquals with nothing", `"StringEquals": {"kms:ViaService": ""}`, with(), "no"},
	{"absent: StringNotEquals", `"StringNotEquals": {"kms:ViaService": "x"}`, with(), "yes"},
	{"absent: StringEqualsIgnoreCase", `"StringEqualsIgnoreCase": {"kms:ViaService": "x"}`, with(), "no"},
	{"absent: StringNotEqualsIgnoreCase", `"StringNotEqualsIgnoreCase": {"kms:ViaService": "x"}`, with(), "yes"},
	{"absent: StringLike", `"StringLike": {"kms:ViaService": "*"}`, with(), "no"},
	{"absent: StringNotLike", `"StringNotLike": {"kms:ViaService": "*"}`, with(), "yes"},
	{"absent: NumericEquals", `"NumericEquals": {"kms:RotationPeriodInDays": 0}`, with(), "no"},
	{"absent: NumericNotEquals", `"NumericNotEquals": {"kms:RotationPeriodInDays": 0}`, with(), "yes"},
	{"absent: NumericLessThan", `"NumericLessThan": {"kms:RotationPeriodInDays": 100}`, with(), "no"},
	{"absent: DateNotEquals", `"DateNotEquals": {"kms:ValidTo": "2026-01-01"}`, with(), "yes"},
	{"absent: ArnLike", `"ArnLike": {"kms:GranteePrincipal": "*:*:*:*:*:*"}`, with(), "no"},
	{"absent: ArnNotEquals", `"ArnNotEquals": {"kms:GranteePrincipal": "*:*:*:*:*:*"}`, with(), "yes"},
	{"absent: an encryption context without the name", `"StringEquals": {"kms:EncryptionContext:app": "x"}`, context("other", "x"), "no"},
	{"absent: of a nameless caller", `"StringEquals": {"aws:username": ""}`, by(nobody), "no"},

	{"Null true: absent", `"Null": {"kms:ViaService": "true"}`, with(), "yes"},
	{"Null true: present", `"Null": {"kms:ViaService": "true"}`, text(viaService, "x"), "no"},
	{"Null true: present and empty", `"Null": {"kms:ViaService": "true"}`, text(viaService, ""), "no"},
	{"Null false: absent", `"Null": {"kms:ViaService": "false"}`, with(), "no"},
	{"Null false: present", `"Null": {"kms:ViaService": false}`, text(viaService, "x"), "yes"},
	{"Null either: absent", `"Null": {"kms:ViaService": ["true", "false"]}`, with(), "yes"},
	{"Null either: present", `"Null": {"kms:ViaService": ["true", "false"]}`, text(viaService, "x"), "yes"},
	{"Null true: a key of several values, none", `"Null": {"kms:EncryptionContextKeys": "true"}`, context(), "yes"},
	{"Null false: a key of several values, some", `"Null": {"kms:EncryptionContextKeys": "false"}`, context("a", "b"), "yes"},
	{"Null false: a name of the encryption context", `"Null": {"kms:EncryptionContext:a": "false"}`, context("a", "b"), "yes"},
	{"Null true: a default is not in the request", `"Null": {"kms:BypassPolicyLockoutSafetyCheck": "true"}`, with(flag("kms:BypassPolicyLockoutSafetyCheck", false), defaulted("kms:BypassPolicyLockoutSafetyCheck")), "yes"},
	{"Null false: a default is not in the request", `"Null": {"kms:BypassPolicyLockoutSafetyCheck": "false"}`, with(flag("kms:BypassPolicyLockoutSafetyCheck", false), defaulted("kms:BypassPolicyLockoutSafetyCheck")), "no"},
	{"a default is compared", `"Bool": {"kms:BypassPolicyLockoutSafetyCheck": "false"}`, with(flag("kms:BypassPolicyLockoutSafetyCheck", false), defaulted("kms:BypassPolicyLockoutSafetyCheck")), "yes"},
	{"Null and another operator on one key", `"Null": {"kms:ViaService": "false"}, "StringNotEquals": {"kms:ViaService": "x"}`, with(), "no"},

	{"IfExists: absent", `"StringEqualsIfExists": {"kms:ViaService": "x"}`, with(), "yes"},
	{"IfExists: present and equal", `"StringEqualsIfExists": {"kms:ViaService": "x"}`, text(viaService, "x"), "yes"},
	{"IfExists: present and not equal", `"StringEqualsIfExists": {"kms:ViaService": "x"}`, text(viaService, "y"), "no"},
	{"IfExists: negated, absent", `"StringNotEqualsIfExists": {"kms:ViaService": "x"}`, with(), "yes"},
	{"IfExists: negated, equal", `"StringNotEqualsIfExists": {"kms:ViaService": "x"}`, text(viaService, "x"), "no"},
	{"IfExists: Bool, absent", `"BoolIfExists": {"aws:SecureTransport": "true"}`, with(), "yes"},
	{"IfExists: Bool, false", `"BoolIfExists": {"aws:SecureTransport": "true"}`, flag("aws:SecureTransport", false), "no"},
	{"IfExists: NumericLessThan, absent", `"NumericLessThanIfExists": {"kms:RotationPeriodInDays": 100}`, with(), "yes"},
	{"IfExists: IpAddress, absent", `"IpAddressIfExists": {"aws:SourceIp": "10.0.0.0/8"}`, with(), "yes"},
	{"IfExists: DateLessThan, present", `"DateLessThanIfExists": {"aws:CurrentTime": "2020-01-01"}`, with(), "no"},
	{"IfExists: ArnLike, absent", `"ArnLikeIfExists": {"kms:GranteePrincipal": "arn:aws:iam::1:user/x"}`, with(), "yes"},
	{"IfExists: BinaryEquals, absent", `"BinaryEqualsIfExists": {"aws:UserAgent": "AAAA"}`, with(), "yes"},
}

const contextKeys = "kms:EncryptionContextKeys"

var setCases = []conditionCase{
	{"ForAllValues: all", `"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["a", "b"]}`, context("a", "1", "b", "2"), "yes"},
	{"ForAllValues: a subset", `"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["a", "b"]}`, context("a", "1"), "yes"},
	{"ForAllValues: one too many", `"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["a", "b"]}`, context("a", "1", "c", "2"), "no"},
	{"ForAllValues: an empty set", `"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["a", "b"]}`, context(), "yes"},
	{"ForAllValues: absent", `"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["a", "b"]}`, with(), "yes"},
	{"ForAllValues: values have case", `"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": "a"}`, context("A", "1"), "no"},
	{"ForAllValues: Like", `"ForAllValues:StringLike": {"kms:EncryptionContextKeys": "app:*"}`, context("app:a", "1", "app:b", "2"), "yes"},
	{"ForAllValues: negated, none equal", `"ForAllValues:StringNotEquals": {"kms:EncryptionContextKeys": ["x", "y"]}`, context("a", "1", "b", "2"), "yes"},
	{"ForAllValues: negated, one equal", `"ForAllValues:StringNotEquals": {"kms:EncryptionContextKeys": ["x", "a"]}`, context("a", "1", "b", "2"), "no"},
	{"ForAllValues: negated, absent", `"ForAllValues:StringNotEquals": {"kms:EncryptionContextKeys": "x"}`, with(), "yes"},
	{"ForAllValues: IfExists adds nothing, absent", `"ForAllValues:StringEqualsIfExists": {"kms:EncryptionContextKeys": "a"}`, with(), "yes"},
	{"ForAllValues: IfExists adds nothing, another", `"ForAllValues:StringEqualsIfExists": {"kms:EncryptionContextKeys": "a"}`, context("b", "1"), "no"},
	{"ForAllValues: operations of a grant", `"ForAllValues:StringEquals": {"kms:GrantOperations": ["Encrypt", "Decrypt"]}`, text("kms:GrantOperations", "Decrypt"), "yes"},
	{"ForAllValues: an operation too many", `"ForAllValues:StringEquals": {"kms:GrantOperations": ["Encrypt", "Decrypt"]}`, text("kms:GrantOperations", "Decrypt", "CreateGrant"), "no"},
	{"ForAllValues: on a key of one value", `"ForAllValues:StringEquals": {"kms:ViaService": "x"}`, text(viaService, "x"), "yes"},
	{"ForAllValues: on a key of one value, absent", `"ForAllValues:StringEquals": {"kms:ViaService": "x"}`, with(), "yes"},
	{"ForAllValues with Null: an empty set", `"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": "a"}, "Null": {"kms:EncryptionContextKeys": "false"}`, context(), "no"},

	{"ForAnyValue: one of two", `"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "a"}`, context("a", "1", "b", "2"), "yes"},
	{"ForAnyValue: none", `"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": ["x", "y"]}`, context("a", "1", "b", "2"), "no"},
	{"ForAnyValue: an empty set", `"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "a"}`, context(), "no"},
	{"ForAnyValue: absent", `"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "a"}`, with(), "no"},
	{"ForAnyValue: Like everything, absent", `"ForAnyValue:StringLike": {"kms:EncryptionContextKeys": "*"}`, with(), "no"},
	{"ForAnyValue: negated, one not equal", `"ForAnyValue:StringNotEquals": {"kms:EncryptionContextKeys": "a"}`, context("a", "1", "b", "2"), "yes"},
	{"ForAnyValue: negated, all equal", `"ForAnyValue:StringNotEquals": {"kms:EncryptionContextKeys": ["a", "b"]}`, context("a", "1", "b", "2"), "no"},
	{"ForAnyValue: negated, absent", `"ForAnyValue:StringNotEquals": {"kms:EncryptionContextKeys": "a"}`, with(), "no"},
	{"ForAnyValue: IfExists has no effect", `"ForAnyValue:StringEqualsIfExists": {"kms:EncryptionContextKeys": "a"}`, with(), "no"},
	{"ForAnyValue: aliases", `"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/prod-*"}`, text("kms:ResourceAliases", "alias/x", "alias/prod-db"), "yes"},
	{"ForAnyValue: groups of the host", `"ForAnyValue:StringEquals": {"kmsfs:Groups": ["finance", "audit"]}`, by(unixAlice), "yes"},
	{"ForAnyValue: not in the groups", `"ForAnyValue:StringEquals": {"kmsfs:Groups": ["finance", "audit"]}`, by(unixBob), "no"},
	{"ForAnyValue: groups of a caller from elsewhere", `"ForAnyValue:StringEquals": {"kmsfs:Groups": "finance"}`, by(alice), "no"},
	{"ForAllValues: groups of a caller from elsewhere", `"ForAllValues:StringEquals": {"kmsfs:Groups": "finance"}`, by(alice), "yes"},
	{"ForAnyValue: on a key of one value", `"ForAnyValue:StringEquals": {"kms:EncryptionContext:app": "x"}`, context("app", "x"), "yes"},
	{"ForAnyValue: tags of the request", `"ForAnyValue:StringEquals": {"aws:TagKeys": "Owner"}`, func(r *policy.Request) { r.Context.RequestTags(map[string]string{"Owner": "x"}) }, "yes"},
	{"both prefixes: exactly one name", `"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "a"}, "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": "a"}`, context("a", "1"), "yes"},
	{"both prefixes: one name too many", `"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "a"}, "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": "a"}`, context("a", "1", "b", "2"), "no"},
}

var caseCases = []conditionCase{
	{"name of a key has no case", `"StringEquals": {"KMS:viaservice": "x"}`, text(viaService, "x"), "yes"},
	{"name of a key has no case in the request", `"StringEquals": {"kms:ViaService": "x"}`, text("KMS:VIASERVICE", "x"), "yes"},
	{"name within the encryption context has no case", `"StringEquals": {"kms:EncryptionContext:AppName": "x"}`, context("appname", "x"), "yes"},
	{"value within the encryption context has case", `"StringEquals": {"kms:EncryptionContext:AppName": "X"}`, context("AppName", "x"), "no"},
	{"value within the encryption context, ignoring case", `"StringEqualsIgnoreCase": {"kms:EncryptionContext:AppName": "X"}`, context("AppName", "x"), "yes"},
	{"the names as values have case", `"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "AppName"}`, context("appname", "x"), "no"},
	{"name with colons", `"StringEquals": {"kms:EncryptionContext:aws:s3:arn": "x"}`, context("aws:s3:arn", "x"), "yes"},
	{"name beyond ASCII has no case", `"StringEquals": {"kms:EncryptionContext:\u00c4": "x"}`, context("ä", "x"), "yes"},
	{"name that begins as another", `"StringEquals": {"kms:EncryptionContext:a": "x"}`, context("ab", "x"), "no"},
	{"names that differ in case only, both fit", `"StringEquals": {"kms:EncryptionContext:a": ["x", "y"]}`, context("a", "x", "A", "y"), "yes"},
	{"names that differ in case only, one fits", `"StringEquals": {"kms:EncryptionContext:a": "x"}`, context("a", "x", "A", "y"), "maybe"},
	{"names that differ in case only, negated, one fits", `"StringNotEquals": {"kms:EncryptionContext:a": "x"}`, context("a", "x", "A", "y"), "maybe"},
	{"names that differ in case only, none fits", `"StringEquals": {"kms:EncryptionContext:a": "z"}`, context("a", "x", "A", "y"), "no"},
	{"tag of the resource", `"StringEquals": {"aws:ResourceTag/Owner": "x"}`, func(r *policy.Request) { r.Context.ResourceTags(map[string]string{"owner": "x"}) }, "yes"},
	{"tag of the request", `"StringEquals": {"aws:RequestTag/Owner": "x"}`, func(r *policy.Request) { r.Context.RequestTags(map[string]string{"Owner": "x"}) }, "yes"},
	{"two keys under one operator: both", `"StringEquals": {"kms:EncryptionContext:a": "1", "kms:EncryptionContext:b": "2"}`, context("a", "1", "b", "2"), "yes"},
	{"two keys under one operator: one", `"StringEquals": {"kms:EncryptionContext:a": "1", "kms:EncryptionContext:b": "2"}`, context("a", "1", "b", "3"), "no"},
	{"no conditions", ``, with(), "yes"},
}

var variableCases = []conditionCase{
	{"variable: equal", `"StringEquals": {"kms:EncryptionContext:user": "${aws:username}"}`, context("user", "alice"), "yes"},
	{"variable: not equal", `"StringEquals": {"kms:EncryptionContext:user": "${aws:username}"}`, context("user", "bob"), "no"},
	{"variable: name has no case", `"StringEquals": {"kms:EncryptionContext:user": "${AWS:UserName}"}`, context("user", "alice"), "yes"},
	{"variable: spaces in it", `"StringEquals": {"kms:EncryptionContext:user": "${ aws:username }"}`, context("user", "alice"), "yes"},
	{"variable: within text", `"StringEquals": {"kms:EncryptionContext:user": "u-${aws:username}-x"}`, context("user", "u-alice-x"), "yes"},
	{"variable: two of them", `"StringEquals": {"kms:EncryptionContext:user": "${aws:username}@${aws:PrincipalAccount}"}`, context("user", "alice@000000000000"), "yes"},
	{"variable: with a wildcard", `"StringLike": {"kms:EncryptionContext:user": "${aws:username}/*"}`, context("user", "alice/home"), "yes"},
	{"variable: path of a user is not its name", `"StringEquals": {"kms:EncryptionContext:user": "${aws:username}"}`, with(by(bob), context("user", "bob")), "yes"},
	{"variable: a user of the host", `"StringLike": {"kmsfs:Path": "/home/${aws:username}/*"}`, with(by(unixAlice), text("kmsfs:Path", "/home/alice/x")), "yes"},
	{"variable: a number", `"StringEquals": {"kms:EncryptionContext:uid": "${kmsfs:Uid}"}`, with(by(unixAlice), context("uid", "1000")), "yes"},
	{"variable: userid", `"StringEquals": {"kms:EncryptionContext:id": "${aws:userid}"}`, context("id", "AIDAALICE"), "yes"},
	{"variable: the encryption context itself", `"StringEquals": {"aws:username": "${kms:EncryptionContext:owner}"}`, context("owner", "alice"), "yes"},
	{"variable: no value, positive", `"StringEquals": {"kms:EncryptionContext:user": "${aws:username}"}`, with(by(session), context("user", "")), "no"},
	{"variable: no value, negated", `"StringNotEquals": {"kms:EncryptionContext:user": "${aws:username}"}`, with(by(session), context("user", "x")), "yes"},
	{"variable: no value, another value fits", `"StringEquals": {"kms:EncryptionContext:user": ["${aws:username}", "x"]}`, with(by(session), context("user", "x")), "yes"},
	{"variable: default", `"StringEquals": {"kms:EncryptionContext:user": "${aws:username, 'anonymous'}"}`, with(by(session), context("user", "anonymous")), "yes"},
	{"variable: default not needed", `"StringEquals": {"kms:EncryptionContext:user": "${aws:username, 'anonymous'}"}`, context("user", "alice"), "yes"},
	{"variable: default with quote, brace and comma", `"StringEquals": {"kms:EncryptionContext:user": "${aws:username,'it''s }, ok'}"}`, with(by(session), context("user", "it's }, ok")), "yes"},
	{"variable: its wildcards are none", `"StringLike": {"kms:EncryptionContext:user": "${aws:UserAgent}"}`, with(text("aws:UserAgent", "*"), context("user", "x")), "no"},
	{"variable: its wildcards are text", `"StringLike": {"kms:EncryptionContext:user": "${aws:UserAgent}"}`, with(text("aws:UserAgent", "*"), context("user", "*")), "yes"},
	{"variable: not replaced again", `"StringEquals": {"kms:EncryptionContext:user": "${aws:UserAgent}"}`, with(text("aws:UserAgent", "${aws:username}"), context("user", "${aws:username}")), "yes"},
	{"variable: in an ARN", `"ArnLike": {"kms:EncryptionContext:arn": "arn:aws:iam::${aws:PrincipalAccount}:user/${aws:username}"}`, context("arn", "arn:aws:iam::000000000000:user/alice"), "yes"},
	{"variable: colons of it are in its field", `"ArnLike": {"kms:EncryptionContext:arn": "arn:aws:x:::${kms:EncryptionContext:owner}"}`, context("arn", "arn:aws:x:::a:b", "owner", "a:b"), "yes"},
	{"variable: in an ARN, without value", `"ArnNotLike": {"kms:EncryptionContext:arn": "arn:aws:iam::*:user/${aws:username}"}`, with(by(session), context("arn", "arn:aws:iam::1:user/")), "yes"},
	{"escape: a star", `"StringLike": {"kms:EncryptionContext:user": "a${*}"}`, context("user", "a*"), "yes"},
	{"escape: a star is not a wildcard", `"StringLike": {"kms:EncryptionContext:user": "a${*}"}`, context("user", "ab"), "no"},
	{"escape: a question mark", `"StringLike": {"kms:EncryptionContext:user": "${?}?"}`, context("user", "?x"), "yes"},
	{"escape: a dollar", `"StringEquals": {"kms:EncryptionContext:user": "${$}{aws:username}"}`, context("user", "${aws:username}"), "yes"},
	{"a dollar alone", `"StringEquals": {"kms:EncryptionContext:user": "$aws:username"}`, context("user", "$aws:username"), "yes"},
	{"variable: ignoring case", `"StringEqualsIgnoreCase": {"kms:EncryptionContext:user": "${aws:username}"}`, context("user", "ALICE"), "yes"},
	{"variable: a date", `"StringEquals": {"kms:EncryptionContext:t": "${aws:CurrentTime}"}`, context("t", "2026-11-25T12:00:00Z"), "yes"},
}

var uncertainCases = []conditionCase{
	{"unresolved groups: ForAnyValue, may be in it", `"ForAnyValue:StringEquals": {"kmsfs:Groups": "finance"}`, by(noGroups), "maybe"},
	{"unresolved groups: ForAnyValue, is in it", `"ForAnyValue:StringEquals": {"kmsfs:Groups": "dora"}`, by(noGroups), "yes"},
	{"unresolved groups: ForAllValues, all known fit", `"ForAllValues:StringEquals": {"kmsfs:Groups": ["dora", "5001"]}`, by(noGroups), "maybe"},
	{"unresolved groups: ForAllValues, a known one does not", `"ForAllValues:StringEquals": {"kmsfs:Groups": "dora"}`, by(noGroups), "no"},
	{"unresolved groups: negated ForAllValues", `"ForAllValues:StringNotEquals": {"kmsfs:Groups": "finance"}`, by(noGroups), "maybe"},
	{"unresolved groups: Null, some are known", `"Null": {"kmsfs:Groups": "false"}`, by(noGroups), "yes"},
	{"unresolved groups: the uid is known", `"NumericEquals": {"kmsfs:Uid": 1003}`, by(noGroups), "yes"},
	{"unresolved groups: the name is known", `"StringEquals": {"aws:username": "dora"}`, by(noGroups), "yes"},
	{"unresolved user: its name", `"StringEquals": {"aws:username": "alice"}`, by(noName), "maybe"},
	{"unresolved user: its name, negated", `"StringNotEquals": {"aws:username": "alice"}`, by(noName), "maybe"},
	{"unresolved user: its ARN", `"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::000000000000:unix/user/alice"}`, by(noName), "maybe"},
	{"unresolved user: IfExists does not help", `"StringEqualsIfExists": {"aws:username": "alice"}`, by(noName), "maybe"},
	{"unresolved user: ForAllValues does not help", `"ForAllValues:StringEquals": {"aws:username": "alice"}`, by(noName), "maybe"},
	{"unresolved user: as a variable", `"StringEquals": {"kms:EncryptionContext:user": "${aws:username}"}`, with(by(noName), context("user", "alice")), "maybe"},
	{"unresolved user: as a variable beside a value that fits", `"StringEquals": {"kms:EncryptionContext:user": ["${aws:username}", "alice"]}`, with(by(noName), context("user", "alice")), "yes"},
	{"unresolved user: as a variable, negated, beside a value that fits", `"StringNotEquals": {"kms:EncryptionContext:user": ["${aws:username}", "alice"]}`, with(by(noName), context("user", "alice")), "no"},
	{"unresolved user: its account is known", `"StringEquals": {"kms:CallerAccount": "000000000000"}`, by(noName), "yes"},
	{"unresolved user: a maybe and a no", `"StringEquals": {"aws:username": "alice", "kms:CallerAccount": "1"}`, by(noName), "no"},
	{"unresolved user: a maybe and a yes", `"StringEquals": {"aws:username": "alice", "kms:CallerAccount": "000000000000"}`, by(noName), "maybe"},
	{"unresolved user: Null either way", `"Null": {"aws:username": ["true", "false"]}`, by(noName), "yes"},
	{"unresolved user: Null", `"Null": {"aws:username": "true"}`, by(noName), "maybe"},
	{"unknown value: a positive operator", `"StringEquals": {"aws:UserAgent": "x"}`, unknown("aws:UserAgent"), "maybe"},
	{"unknown value: whatever was set", `"StringEquals": {"aws:UserAgent": "x"}`, with(text("aws:UserAgent", "y"), unknown("aws:UserAgent")), "maybe"},
	{"unknown value: Null", `"Null": {"aws:UserAgent": "false"}`, unknown("aws:UserAgent"), "maybe"},
	{"unknown values of several: one is known", `"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/a"}`, with(text("kms:ResourceAliases", "alias/a"), unknown("kms:ResourceAliases")), "yes"},
	{"unknown values of several: the rest may be anything", `"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/b"}`, with(text("kms:ResourceAliases", "alias/a"), unknown("kms:ResourceAliases")), "maybe"},

	{"links: all fit", `"StringLike": {"kmsfs:Path": "/a/*"}`, text("kmsfs:Path", "/a/1", "/a/2"), "yes"},
	{"links: one fits", `"StringLike": {"kmsfs:Path": "/a/*"}`, text("kmsfs:Path", "/a/1", "/b/2"), "maybe"},
	{"links: none fits", `"StringLike": {"kmsfs:Path": "/a/*"}`, text("kmsfs:Path", "/b/1", "/b/2"), "no"},
	{"links: negated, all outside", `"StringNotLike": {"kmsfs:Path": "/a/*"}`, text("kmsfs:Path", "/b/1", "/b/2"), "yes"},
	{"links: negated, one inside", `"StringNotLike": {"kmsfs:Path": "/a/*"}`, text("kmsfs:Path", "/a/1", "/b/2"), "maybe"},
	{"links: as a variable", `"StringEquals": {"kms:EncryptionContext:p": "${kmsfs:Path}"}`, with(text("kmsfs:Path", "/a", "/b"), context("p", "/a")), "maybe"},
	{"links: not all are known, those that are fit", `"StringLike": {"kmsfs:Path": "/a/*"}`, with(text("kmsfs:Path", "/a/1"), unknown("kmsfs:Path")), "maybe"},
}

// hostCases are about the keys of this system; a program needs a user or group in an Allow, so they are written for one.
var hostCases = []conditionCase{
	{"program: the path", `"StringEquals": {"kmsfs:Program": "/usr/bin/pg_dump"}`, text("kmsfs:Program", "/usr/bin/pg_dump"), "yes"},
	{"program: another", `"StringEquals": {"kmsfs:Program": "/usr/bin/pg_dump"}`, text("kmsfs:Program", "/usr/bin/cat"), "no"},
	{"program: a pattern", `"StringLike": {"kmsfs:Program": "/usr/lib/postgresql/*/bin/postgres"}`, text("kmsfs:Program", "/usr/lib/postgresql/15/bin/postgres"), "yes"},
	{"program: could not be read", `"StringEquals": {"kmsfs:Program": "/usr/bin/pg_dump"}`, unknown("kmsfs:Program"), "maybe"},
	{"program: digest could not be read", `"StringLike": {"kmsfs:ProgramSha256": "ab*"}`, unknown("kmsfs:ProgramSha256"), "maybe"},
	{"program and volume", `"StringEquals": {"kmsfs:Program": "/bin/a", "kmsfs:Volume": "v1"}`, with(text("kmsfs:Program", "/bin/a"), text("kmsfs:Volume", "v1")), "yes"},
	{"program and group", `"StringEquals": {"kmsfs:Program": "/bin/a"}, "ForAnyValue:StringEquals": {"kmsfs:Groups": "finance"}`, text("kmsfs:Program", "/bin/a"), "yes"},
	{"uid range", `"NumericGreaterThanEquals": {"kmsfs:Uid": 1000}`, with(), "yes"},
	{"uid 0", `"NumericEquals": {"kmsfs:Uid": 0}`, with(), "no"},
}

func TestConditions(t *testing.T) {
	const anybody = `"*"`
	const unixUser = `{"AWS": "arn:aws:iam::000000000000:unix/user/alice"}`
	for _, group := range []struct {
		name      string
		principal string
		cases     []conditionCase
		base      option
	}{
		{"strings", anybody, stringCases, with()},
		{"numbers", anybody, numberCases, with()},
		{"dates", anybody, dateCases, with()},
		{"other operators", anybody, otherCases, with()},
		{"absent keys", anybody, absentCases, with()},
		{"sets", anybody, setCases, with()},
		{"case of names", anybody, caseCases, with()},
		{"variables", anybody, variableCases, with()},
		{"uncertain", anybody, uncertainCases, with()},
		{"host", unixUser, hostCases, by(unixAlice)},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) {
					c.check(t, group.principal, group.base)
				})
			}
		})
	}
}

// check tries the condition in an Allow and in a Deny.
func (c conditionCase) check(t *testing.T, principal string, base option) {
	t.Helper()
	r := request(base, c.request)
	for effect, want := range map[string]bool{"Allow": c.holds == "yes", "Deny": c.holds != "no"} {
		who := principal
		if effect == "Allow" && principal == `"*"` && bytes.Contains([]byte(c.condition), []byte("kmsfs:Program")) {
			continue // refused
		}
		d := parse(t, policy.Rules{}, document(fmt.Sprintf(
			`{"Effect": %q, "Principal": %s, "Action": "*", "Resource": "*", "Condition": {%s}}`, effect, who, c.condition)))
		if got := d.Evaluate(r).Effect != policy.ImplicitDeny; got != want {
			t.Errorf("in %s: applies = %v, want %v", effect, got, want)
		}
	}
}
