package policy

import "strings"

// valueType is what the values of a condition key are, which decides the operators that can compare them.
type valueType uint8

const (
	textValue   valueType = iota
	arnValue              // text that is an ARN
	digestValue           // hexadecimal digits
	boolValue
	numberValue
	dateValue
	epochValue // seconds since 1970: a number and a date
	addrValue
)

// String gives the type as docs/API.md calls it.
func (t valueType) String() string {
	return [...]string{"text", "ARN", "digest", "Boolean", "number", "date", "seconds since 1970", "IP address"}[t]
}

// derivation says from where in a Request the value of a key comes.
type derivation uint8

const (
	fromContext derivation = iota
	fromARN
	fromAccount
	fromPrincipalType
	fromUsername
	fromUserID
	fromTime
	fromUID
	fromGroups
)

// keyInfo describes a condition key. One whose name ends in ':' or '/' is a family: the rest of the name is the user's.
type keyInfo struct {
	name  string
	typ   valueType
	multi bool // a request can have several values of it, so a condition needs ForAllValues: or ForAnyValue:
	from  derivation

	folded string // the name, folded; filled in by indexKeys
	family bool   // the name ends in ':' or '/'; filled in by indexKeys
}

// keys are all condition keys that have a meaning here. docs/API.md lists them (tested).
var keys = indexKeys([]keyInfo{
	{name: "aws:CurrentTime", typ: dateValue, from: fromTime},
	{name: "aws:EpochTime", typ: epochValue, from: fromTime},
	{name: "aws:PrincipalAccount", from: fromAccount},
	{name: "aws:PrincipalArn", typ: arnValue, from: fromARN},
	{name: "aws:PrincipalType", from: fromPrincipalType},
	{name: "aws:RequestTag/"},
	{name: "aws:ResourceTag/"},
	{name: "aws:SecureTransport", typ: boolValue},
	{name: "aws:SourceIp", typ: addrValue},
	{name: "aws:TagKeys", multi: true},
	{name: "aws:UserAgent"},
	{name: "aws:userid", from: fromUserID},
	{name: "aws:username", from: fromUsername},

	{name: "kms:BypassPolicyLockoutSafetyCheck", typ: boolValue},
	{name: "kms:CallerAccount", from: fromAccount},
	{name: "kms:CustomerMasterKeySpec"},
	{name: "kms:CustomerMasterKeyUsage"},
	{name: "kms:EncryptionAlgorithm"},
	{name: "kms:EncryptionContext:"},
	{name: "kms:EncryptionContextKeys", multi: true},
	{name: "kms:ExpirationModel"},
	{name: "kms:GrantConstraintType"},
	{name: "kms:GrantIsForAWSResource", typ: boolValue},
	{name: "kms:GrantOperations", multi: true},
	{name: "kms:GranteePrincipal", typ: arnValue},
	{name: "kms:KeyOrigin"},
	{name: "kms:KeySpec"},
	{name: "kms:KeyUsage"},
	{name: "kms:MultiRegion", typ: boolValue},
	{name: "kms:ReEncryptOnSameKey", typ: boolValue},
	{name: "kms:RequestAlias"},
	{name: "kms:ResourceAliases", multi: true},
	{name: "kms:RetiringPrincipal", typ: arnValue},
	{name: "kms:RotationPeriodInDays", typ: numberValue},
	{name: "kms:ScheduleKeyDeletionPendingWindowInDays", typ: numberValue},
	{name: "kms:ValidTo", typ: epochValue},
	{name: "kms:ViaService"},
	{name: "kms:WrappingAlgorithm"},
	{name: "kms:WrappingKeySpec"},

	{name: "kmsfs:Groups", multi: true, from: fromGroups},
	{name: "kmsfs:Path"},
	{name: "kmsfs:Program"},
	{name: "kmsfs:ProgramSha256", typ: digestValue},
	{name: "kmsfs:Uid", typ: numberValue, from: fromUID},
	{name: "kmsfs:Volume"},
})

// keysByName finds the keys that are spelt as usual, but for families.
var keysByName = keysOf(keys)

func indexKeys(keys []keyInfo) []keyInfo {
	for i := range keys {
		k := &keys[i]
		k.folded = fold(k.name)
		k.family = strings.HasSuffix(k.name, ":") || strings.HasSuffix(k.name, "/")
	}
	return keys
}

func keysOf(keys []keyInfo) map[string]*keyInfo {
	m := make(map[string]*keyInfo, len(keys))
	for i := range keys {
		if k := &keys[i]; !k.family {
			m[k.name] = k
		}
	}
	return m
}

// keyRef is a condition key as a document or a Context names it.
type keyRef struct {
	*keyInfo
	spelling string // in the usual spelling, with the part that is the user's as written
	id       string // the same, folded: by which it is found
}

// fold makes names comparable: those of condition keys, their parts and actions have no case.
func fold(name string) string { return strings.ToLower(name) }

// sameASCII compares without regard to the case of ASCII letters, and of no others: the length of what matches is that of known.
func sameASCII(s, known string) bool {
	if len(s) != len(known) {
		return false
	}
	for i := range len(s) {
		if s[i] >= 0x80 || fold(s[i:i+1]) != fold(known[i:i+1]) {
			return false
		}
	}
	return true
}

// several reports whether a request may give the key several values: kmsfs:Path has one per link of the file, though a condition on it is written
// as for one.
func (k *keyInfo) several() bool { return k.multi || k.name == "kmsfs:Path" }

// isProgram reports whether the key is about the program that asks.
func (k *keyInfo) isProgram() bool { return strings.HasPrefix(k.name, "kmsfs:Program") }

// findKey returns the key that is called name, in any case.
func findKey(name string) (keyRef, bool) {
	if k, ok := keysByName[name]; ok {
		return keyRef{keyInfo: k, spelling: k.name, id: k.folded}, true
	}
	for i := range keys {
		k := &keys[i]
		if !k.family {
			if sameASCII(name, k.name) {
				return keyRef{keyInfo: k, spelling: k.name, id: k.folded}, true
			}
			continue
		}
		if len(name) > len(k.name) && sameASCII(name[:len(k.name)], k.name) {
			rest := name[len(k.name):]
			return keyRef{keyInfo: k, spelling: k.name + rest, id: k.folded + fold(rest)}, true
		}
	}
	return keyRef{}, false
}

// elsewhere are condition keys of AWS that nothing here sets.
var elsewhere = strings.Fields(`kms:DataKeyPairSpec kms:KeyAgreementAlgorithm kms:MacAlgorithm kms:MessageType kms:MultiRegionKeyType
	kms:PrimaryRegion kms:RecipientAttestation kms:ReplicaRegion kms:SigningAlgorithm aws:CalledVia aws:FederatedProvider
	aws:MultiFactorAuthAge aws:MultiFactorAuthPresent aws:PrincipalIsAWSService aws:PrincipalOrgID aws:PrincipalOrgPaths
	aws:PrincipalServiceName aws:PrincipalTag aws:referer aws:RequestedRegion aws:SourceAccount aws:SourceArn aws:SourceVpc aws:SourceVpce
	aws:TokenIssueTime aws:ViaAWSService aws:VpcSourceIp`)

// unknownKey says what is wrong with a name that is no condition key.
func unknownKey(name string) string {
	for _, e := range elsewhere {
		if len(name) >= len(e) && sameASCII(name[:len(e)], e) && (len(name) == len(e) || strings.ContainsRune(":/", rune(name[len(e)]))) {
			return quote(name) + " is a condition key of AWS that has no meaning here"
		}
	}
	return quote(name) + " is not a condition key"
}
