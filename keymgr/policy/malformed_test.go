package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/keymgr/policy"
)

const ok = `"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"`

// malformedCases: why and where a document is refused. The place is written into the document: › stands before the character that the error names.
var malformedCases = []struct {
	name, document, reason string
}{
	{"nothing", `›`, "the document ends"},
	{"white space", "\n  ›", "the document ends"},
	{"not an object", ` ›[]`, "a policy is an object, not a list"},
	{"text", `›"Version"`, "a policy is an object, not text"},
	{"null", `›null`, "a policy is an object, not null"},
	{"a comment", "›// policy\n{}", `'/' where a value is expected`},
	{"two documents", "{\"Statement\": {" + ok + "}}\n›{}", "text after the end"},
	{"not closed", "{\"Statement\": {" + ok + "}\n›", "the document ends"},
	{"comma at the end", `{"Statement": {` + ok + `},›}`, "a name in quotes"},
	{"comma at the end of a list", `{"Statement": [{` + ok + `},›]}`, "a value is expected"},
	{"no comma", `{"Statement": {"Effect": "Allow" ›"Action": "*"}}`, "a comma or the end of the object"},
	{"no comma in a list", `{"Statement": {"Action": ["a" ›"b"]}}`, "a comma or the end of the list"},
	{"no colon", `{"Statement" ›{}}`, "a colon"},
	{"name without quotes", `{›Statement: {}}`, "a name in quotes"},
	{"single quotes", `{›'Statement': {}}`, "a name in quotes"},
	{"text not closed", `{"Version": "2012›`, "closing quote"},
	{"newline in text", "{\"Version\": \"2012›\n-10-17\"}", "control character"},
	{"tab in text", "{\"Version\": \"2012›\t\"}", "control character"},
	{"unknown escape", `{"Version": "›\x"}`, "not an escape"},
	{"short escape", `{"Version": "›\u12"}`, "not an escape"},
	{"escape with sign", `{"Version": "›\u+123"}`, "not an escape"},
	{"half a pair", `{"Id": "›\ud800"}`, "surrogate"},
	{"other half first", `{"Id": "›\udc00\ud800"}`, "surrogate"},
	{"half a pair and a character", `{"Id": "›\ud800\u0041"}`, "surrogate"},
	{"character beyond U+00FF", "{\"Id\": \"ä›中\"}", "U+4E2D is not allowed in a policy"},
	{"control character", "{\"Id\": \"›\x01\"}", "U+0001 is not allowed"},
	{"byte order mark", "›\ufeff{}", "U+FEFF is not allowed"},
	{"not UTF-8", "{\"Id\": \"›\xe4\"}", "not UTF-8"},
	{"leading zero", `{"Statement": {"Condition": {"NumericEquals": {"kmsfs:Uid": 0›1}}}}`, "where a comma or the end of the object is expected"},
	{"a point without digits", `{"Statement": {"Condition": {"NumericEquals": {"kmsfs:Uid": 1.›}}}}`, "a digit"},
	{"a minus alone", `{"Statement": {"Condition": {"NumericEquals": {"kmsfs:Uid": -›}}}}`, "a digit"},
	{"True", `{"Statement": ›True}`, "a value is expected"},
	{"NaN", `{"Statement": ›NaN}`, "a value is expected"},
	{"nested too deeply", `{"a":[[[[[[[›[]]]]]]]]}`, "nested too deeply"},
	{"a name twice", `{"Version": "2012-10-17", ›"Version": "2012-10-17"}`, `"Version" stands twice`},
	{"a name twice, by escape", `{"Version": "2012-10-17", ›"\u0056ersion": "2012-10-17"}`, `"Version" stands twice`},
	{"an Effect twice", "{\"Statement\": {\"Effect\": \"Allow\",\n ›\"Effect\": \"Deny\"}}", `"Effect" stands twice`},

	{"unknown element", `{›"Versions": "2012-10-17"}`, `"Versions" is no element of a policy`},
	{"element in lower case", `{›"statement": []}`, `"statement" is no element`},
	{"unknown element of a statement", "{\"Statement\": {" + ok + ",\n  ›\"Actions\": \"*\"}}", `"Actions" is no element`},
	{"Version of nowhere", `{"Version": ›"2026-01-01"}`, "Version must be"},
	{"Version as number", `{"Version": ›2012}`, "Version must be"},
	{"Id as number", `{"Id": ›1}`, "Id must be text"},
	{"no Statement", `›{"Version": "2012-10-17"}`, "there is no Statement"},
	{"empty Statement", `{"Statement": ›[]}`, "there is no statement"},
	{"Statement as text", `{"Statement": ›"x"}`, "a statement is an object"},
	{"null among statements", `{"Statement": [{` + ok + `}, ›null]}`, "a statement is an object, not null"},
	{"Sid as list", `{"Statement": {"Sid": ›[], ` + ok + `}}`, "Sid must be text"},
	{"Sid twice", `{"Statement": [{"Sid": "a", ` + ok + `}, {"Sid": ›"a", ` + ok + `}]}`, `another statement has the Sid "a"`},
	{"no Effect", `{"Statement": ›{"Principal": "*", "Action": "*", "Resource": "*"}}`, "no Effect"},
	{"Effect in lower case", `{"Statement": {"Effect": ›"allow"}}`, `Effect must be "Allow" or "Deny"`},
	{"Effect as Boolean", `{"Statement": {"Effect": ›true}}`, `Effect must be`},

	{"no principal", `{"Statement": [` + "\n" + `›{"Effect": "Allow", "Action": "*", "Resource": "*"}]}`, "neither Principal nor NotPrincipal"},
	{"both principals", `{"Statement": {"Effect": "Deny", "Principal": "*", "NotPrincipal": ›{"AWS": "000000000000"}}}`, "either Principal or NotPrincipal"},
	{"NotPrincipal and Allow", `{"Statement": {"Effect": "Allow", "NotPrincipal": ›{"AWS": "000000000000"}}}`, "NotPrincipal works with Deny only"},
	{"NotPrincipal *", `{"Statement": {"Effect": "Deny", "NotPrincipal": ›"*"}}`, "can never apply"},
	{"NotPrincipal with * in a list", `{"Statement": {"Effect": "Deny", "NotPrincipal": ›{"AWS": ["000000000000", "*"]}}}`, "can never apply"},
	{"principal as text", `{"Statement": {"Effect": "Allow", "Principal": ›"arn:aws:iam::000000000000:root"}}`, `a principal is "*", {"AWS"`},
	{"principal as list", `{"Statement": {"Effect": "Allow", "Principal": ›["*"]}}`, `a principal is "*", {"AWS"`},
	{"empty principal", `{"Statement": {"Effect": "Allow", "Principal": ›{}}}`, `a principal is "*", {"AWS"`},
	{"empty list of principals", `{"Statement": {"Effect": "Allow", "Principal": {"AWS": ›[]}}}`, "the list is empty"},
	{"principal as number", `{"Statement": {"Effect": "Allow", "Principal": {"AWS": 0›00000000000}}}`, "where a comma or the end"},
	{"principal as number without leading zero", `{"Statement": {"Effect": "Allow", "Principal": {"AWS": ›111122223333}}}`, "a principal is text, not a number"},
	{"Federated", `{"Statement": {"Effect": "Allow", "Principal": {›"Federated": "x"}}}`, `"Federated" is no kind of principal`},
	{"action as number", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": ›1}}`, "an action is text"},
	{"action as object", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": ›{}}}`, "an object where one value is expected"},
	{"action in a list of lists", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": [›[]]}}`, "a list where one value is expected"},
	{"both actions", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "NotAction": ›"kms:Decrypt"}}`, "either Action or NotAction"},
	{"empty list of actions", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": ›[]}}`, "the list is empty"},
	{"action without service", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": ›"Decrypt"}}`, "has not the form of an action"},
	{"action without name", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": ›"kms:"}}`, "has not the form of an action"},
	{"action with space", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": ›"kms: Decrypt"}}`, "has not the form of an action"},
	{"misspelt action", `{"Statement": {"Effect": "Deny", "Principal": "*", "Action": ["kms:Encrypt", ›"kms:Decript"]}}`, `the action "kms:Decript" matches no action`},
	{"ReEncrypt", `{"Statement": {"Effect": "Deny", "Principal": "*", "Action": ›"kms:ReEncrypt"}}`, "kms:ReEncryptFrom and kms:ReEncryptTo"},
	{"action of another service", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": ›"s3:GetObject"}}`, "matches no action"},
	{"NotAction *", `{"Statement": {"Effect": "Allow", "Principal": "*", "NotAction": ›"*"}}`, "can never apply"},
	{"both resources", `{"Statement": {` + ok + `, "NotResource": ›"*"}}`, "either Resource or NotResource"},
	{"resource that is no ARN", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": ›"key/*"}}`, "six fields"},
	{"resource of five fields", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": ›"arn:aws:kms:*:*"}}`, "six fields"},
	{"NotResource *", `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "NotResource": ›"*"}}`, "can never apply"},
	{"variable in NotResource", `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "NotResource": ›"arn:aws:kms:::alias/${aws:username}"}}`, "NotResource can't have"},
}

// malformedConditions are the same for what stands in Condition.
var malformedConditions = []struct {
	name, condition, reason string
}{
	{"list", `›[]`, "Condition must be an object"},
	{"unknown operator", `{›"StringEqual": {"kms:ViaService": "x"}}`, `"StringEqual" is not a condition operator`},
	{"operator in lower case", `{›"stringEquals": {"kms:ViaService": "x"}}`, "is not a condition operator"},
	{"unknown prefix", `{›"ForSomeValues:StringEquals": {"kms:GrantOperations": "x"}}`, "is not a condition operator"},
	{"two prefixes", `{›"ForAnyValue:ForAllValues:StringEquals": {"kms:GrantOperations": "x"}}`, "is not a condition operator"},
	{"NullIfExists", `{›"NullIfExists": {"kms:ViaService": "true"}}`, "Null takes neither"},
	{"ForAnyValue:Null", `{›"ForAnyValue:Null": {"kms:GrantOperations": "true"}}`, "Null takes neither"},
	{"operator without keys", `{"StringEquals": ›{}}`, "needs an object of condition keys"},
	{"operator with text", `{"StringEquals": ›"x"}`, "needs an object of condition keys"},
	{"unknown key", `{"StringEquals": {›"kms:ViaServices": "x"}}`, `"kms:ViaServices" is not a condition key`},
	{"unknown key of kmsfs", `{"StringEquals": {›"kmsfs:User": "x"}}`, `"kmsfs:User" is not a condition key`},
	{"key without its part", `{"StringEquals": {›"kms:EncryptionContext:": "x"}}`, "is not a condition key"},
	{"key that means nothing here", `{"StringEquals": {›"kms:SigningAlgorithm": "x"}}`, "condition key of AWS that has no meaning here"},
	{"family that means nothing here", `{"StringEquals": {›"aws:PrincipalTag/Team": "x"}}`, "condition key of AWS that has no meaning here"},
	{"letter that folds to ASCII", `{"StringEquals": {›"\u212ams:ViaService": "x"}}`, "is not a condition key"},
	{"letter that folds to ASCII, of a family", `{"StringEquals": {›"\u212ams:EncryptionContext:a": "x"}}`, "is not a condition key"},
	{"key twice in other case", `{"StringEquals": {"kms:ViaService": "x", ›"kms:VIAService": "y"}}`, "stands twice"},
	{"context twice in other case", `{"StringEquals": {"kms:EncryptionContext:a": "x", ›"kms:EncryptionContext:A": "y"}}`, "stands twice"},
	{"no value", `{"StringEquals": {"kms:ViaService": ›[]}}`, "the list is empty"},
	{"null as value", `{"StringEquals": {"kms:ViaService": ›null}}`, "null where one value is expected"},
	{"object as value", `{"StringEquals": {"kms:ViaService": ["x", ›{}]}}`, "an object where one value is expected"},
	{"several values without prefix", `{"StringEquals": {›"kms:EncryptionContextKeys": "x"}}`, "needs ForAllValues: or ForAnyValue:"},
	{"groups without prefix", `{"StringEquals": {›"kmsfs:Groups": "x"}}`, "needs ForAllValues: or ForAnyValue:"},
	{"ForAllValues on the encryption context", `{"ForAllValues:StringEquals": {›"kms:EncryptionContext:a": "x"}}`, "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key"},
	{"ForAllValues on a tag", `{"ForAllValues:StringEquals": {›"aws:RequestTag/a": "x"}}`, "OverlyPermissiveCondition"},
	{"Numeric on text", `{"NumericEquals": {›"kms:ViaService": "1"}}`, "NumericEquals can't compare kms:ViaService, whose type is text"},
	{"String on a number", `{"StringEquals": {›"kmsfs:Uid": "1"}}`, "can't compare"},
	{"String on an address", `{"StringLike": {›"aws:SourceIp": "10.*"}}`, "can't compare"},
	{"String on a Boolean", `{"StringEquals": {›"aws:SecureTransport": "true"}}`, "can't compare"},
	{"Bool on text", `{"Bool": {›"aws:UserAgent": "true"}}`, "can't compare"},
	{"Date on text", `{"DateEquals": {›"aws:UserAgent": "2026-01-01"}}`, "can't compare"},
	{"IpAddress on text", `{"IpAddress": {›"aws:UserAgent": "10.0.0.0/8"}}`, "can't compare"},
	{"Arn on a Boolean", `{"ArnLike": {›"aws:SecureTransport": "a:b:c:d:e:f"}}`, "can't compare"},
	{"Binary on an ARN", `{"BinaryEquals": {›"aws:PrincipalArn": "AAAA"}}`, "can't compare"},
	{"number that is none", `{"NumericEquals": {"kmsfs:Uid": ›"ten"}}`, `the value "ten" of kmsfs:Uid is not a number`},
	{"number with exponent", `{"NumericEquals": {"kmsfs:Uid": [1, ›1e3]}}`, "is not a number"},
	{"number with plus", `{"NumericEquals": {"kmsfs:Uid": ›"+1"}}`, "is not a number"},
	{"number in hexadecimal", `{"NumericEquals": {"kmsfs:Uid": ›"0x10"}}`, "is not a number"},
	{"number as fraction", `{"NumericEquals": {"kmsfs:Uid": ›"1/2"}}`, "is not a number"},
	{"number too long", `{"NumericEquals": {"kmsfs:Uid": ›"1111111111111111111111111111111"}}`, "is not a number"},
	{"empty number", `{"NumericEquals": {"kmsfs:Uid": ›""}}`, "is not a number"},
	{"year alone", `{"DateLessThan": {"aws:CurrentTime": ›"2026"}}`, "is not a date"},
	{"date without zone", `{"DateLessThan": {"aws:CurrentTime": ›"2026-01-01T00:00:00"}}`, "is not a date"},
	{"date with one digit", `{"DateLessThan": {"aws:CurrentTime": ›"2026-1-1"}}`, "is not a date"},
	{"date that there is not", `{"DateLessThan": {"aws:CurrentTime": ›"2026-02-30"}}`, "is not a date"},
	{"date with one digit for the hour", `{"DateLessThan": {"aws:CurrentTime": ›"2026-01-01T1:00:00Z"}}`, "is not a date"},
	{"date with a comma", `{"DateLessThan": {"aws:CurrentTime": ›"2026-01-01T01:00:00,5Z"}}`, "is not a date"},
	{"seconds too large", `{"DateLessThan": {"aws:CurrentTime": ›"99999999999999"}}`, "is not a date"},
	{"Boolean that is none", `{"Bool": {"aws:SecureTransport": ›"yes"}}`, "is neither true nor false"},
	{"Boolean as number", `{"Bool": {"aws:SecureTransport": ›1}}`, "is neither true nor false"},
	{"Null with text", `{"Null": {"kms:ViaService": ›"x"}}`, "is neither true nor false"},
	{"network too long", `{"IpAddress": {"aws:SourceIp": ›"10.0.0.0/33"}}`, "is not an IP address"},
	{"network with mask", `{"IpAddress": {"aws:SourceIp": ›"10.0.0.0/255.0.0.0"}}`, "is not an IP address"},
	{"network with wildcard", `{"IpAddress": {"aws:SourceIp": ›"10.*"}}`, "is not an IP address"},
	{"address with zone", `{"IpAddress": {"aws:SourceIp": ›"fe80::1%eth0"}}`, "is not an IP address"},
	{"address with leading zero", `{"IpAddress": {"aws:SourceIp": ›"010.0.0.1"}}`, "is not an IP address"},
	{"base64 without padding", `{"BinaryEquals": {"aws:UserAgent": ›"aGVsbG8"}}`, "is not base64"},
	{"base64 with rest bits", `{"BinaryEquals": {"aws:UserAgent": ›"aGVsbG9="}}`, "is not base64"},
	{"base64 with newline", `{"BinaryEquals": {"aws:UserAgent": ›"aGVs\nbG8="}}`, "is not base64"},
	{"ARN of one field", `{"ArnLike": {"aws:PrincipalArn": ›"*"}}`, "six fields"},
	{"ARN of five fields", `{"ArnEquals": {"aws:PrincipalArn": ›"arn:aws:iam::000000000000"}}`, "six fields"},
	{"digest too short", `{"StringEquals": {"kmsfs:ProgramSha256": ›"abcd"}}`, "is not a SHA-256 digest"},
	{"digest with wildcard", `{"StringEquals": {"kmsfs:ProgramSha256": ›"abababababababababababababababababababababababababababababababa*"}}`, "is not a SHA-256 digest"},
	{"variable not closed", `{"StringEquals": {"kms:ViaService": ›"a${aws:username"}}`, "has a ${ without its }"},
	{"variable that is no key", `{"StringEquals": {"kms:ViaService": ›"${aws:Username2}"}}`, `the variable "aws:Username2", which is not a condition key`},
	{"empty variable", `{"StringEquals": {"kms:ViaService": ›"${}"}}`, "which is not a condition key"},
	{"variable of several values", `{"StringEquals": {"kms:ViaService": ›"${kmsfs:Groups}"}}`, "which can have several values"},
	{"default without quotes", `{"StringEquals": {"kms:ViaService": ›"${aws:username, x}"}}`, "not in single quotes"},
	{"default with a quote too many", `{"StringEquals": {"kms:ViaService": ›"${aws:username, 'a'b'}c'}"}}`, "single quote in its default value"},
	{"variable in a number", `{"NumericEquals": {"kms:RotationPeriodInDays": ›"${kmsfs:Uid}"}}`, "variables work with the string and ARN operators only"},
	{"variable in an address", `{"IpAddress": {"aws:SourceIp": ›"${aws:SourceIp}"}}`, "variables work with the string and ARN operators only"},
}

// malformedPrincipals are refused as principals; each stands where the place is.
var malformedPrincipals = []struct{ principal, reason string }{
	{`""`, "is neither an account of 12 digits nor an ARN"},
	{`"alice"`, "is neither an account"},
	{`"12345"`, "is neither an account"},
	{`"0000000000000"`, "is neither an account"},
	{`"AIDAALICEALICEALICE1"`, "is neither an account"},
	{`"arn:aws:iam::000000000000:user/*"`, "has a wildcard"},
	{`"arn:aws:iam::000000000000:*"`, "has a wildcard"},
	{`"arn:aws:iam::*:root"`, "has a wildcard"},
	{`"arn:aws-cn:iam::000000000000:root"`, "is neither an account"},
	{`"arn:aws:iam:local:000000000000:root"`, "is neither an account"},
	{`"arn:aws:iam::00000000000:root"`, "is neither an account"},
	{`"arn:aws:iam::000000000000:root/x"`, "its name is malformed"},
	{`"arn:aws:iam::000000000000:user"`, "its name is malformed"},
	{`"arn:aws:iam::000000000000:user/"`, "its name is malformed"},
	{`"arn:aws:iam::000000000000:user/a b"`, "its name is malformed"},
	{`"arn:aws:iam::000000000000:user/a//b"`, "its name is malformed"},
	{`"arn:aws:iam::000000000000:role/"`, "its name is malformed"},
	{`"arn:aws:sts::000000000000:assumed-role/backup"`, "its name is malformed"},
	{`"arn:aws:iam::000000000000:assumed-role/backup/x"`, "is not an ARN of a principal"},
	{`"arn:aws:sts::000000000000:user/x"`, "is not an ARN of a principal"},
	{`"arn:aws:iam::000000000000:group/x"`, "group of identities"},
	{`"arn:aws:iam::000000000000:unix"`, "neither unix/user/NAME"},
	{`"arn:aws:iam::000000000000:unix/alice"`, "neither unix/user/NAME"},
	{`"arn:aws:iam::000000000000:unix/user/"`, "not the name of a user or group"},
	{`"arn:aws:iam::000000000000:unix/user/a/b"`, "not the name of a user or group"},
	{`"arn:aws:iam::000000000000:unix/group/a:b"`, "not the name of a user or group"},
	{`"arn:aws:iam::000000000000:unix/group/a\nb"`, "not the name of a user or group"},
	{`"arn:aws:kms:local:000000000000:key/x"`, "is neither an account"},
}

// programCases: an Allow with a condition on the program that does not name users or groups.
var programCases = []struct{ name, statement string }{
	{"everybody", `"Principal": "*", "Condition": {"StringEquals": {"kmsfs:Program": "/bin/a"}}`},
	{"the account", `"Principal": {"AWS": "000000000000"}, "Condition": {"StringLike": {"kmsfs:ProgramSha256": "ab*"}}`},
	{"a user and the account", `"Principal": {"AWS": ["arn:aws:iam::000000000000:unix/user/a", "arn:aws:iam::000000000000:root"]}, "Condition": {"StringEquals": {"kmsfs:Program": "/bin/a"}}`},
	{"a service", `"Principal": {"Service": "kmsfs.local.amazonaws.com"}, "Condition": {"StringEquals": {"kmsfs:Program": "/bin/a"}}`},
	{"negated", `"Principal": "*", "Condition": {"StringNotEquals": {"kmsfs:Program": "/bin/a"}}`},
	{"Null", `"Principal": "*", "Condition": {"Null": {"kmsfs:Program": "true"}}`},
	{"as a variable", `"Principal": "*", "Condition": {"StringLike": {"kmsfs:Path": "${kmsfs:Program}*"}}`},
	{"as a variable in an ARN", `"Principal": "*", "Condition": {"ArnLike": {"kms:EncryptionContext:a": "a:b:c:d:e:${kmsfs:Program}"}}`},
	{"among others", `"Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": true}, "StringEquals": {"kmsfs:Volume": "v", "kmsfs:Program": "/bin/a"}}`},
}

// refused parses the document, in which › marks the place, and holds the error to place, reason and class.
func refused(t *testing.T, rules policy.Rules, document, reason string, class error) {
	t.Helper()
	before, after, marked := strings.Cut(document, "›")
	if !marked {
		t.Fatalf("%s: no place is marked", document)
	}
	line := 1 + strings.Count(before, "\n")
	column := 1 + len([]rune(before[strings.LastIndexByte(before, '\n')+1:]))
	d, err := rules.Parse([]byte(before + after))
	var e *policy.Error
	if !errors.As(err, &e) {
		t.Fatalf("%s: error %v, document %v", document, err, d)
	}
	if e.Line != line || e.Column != column || !strings.Contains(e.Reason, reason) || d != nil {
		t.Errorf("%s:\ngot  line %d, column %d: %s\nwant line %d, column %d: %s", document, e.Line, e.Column, e.Reason, line, column, reason)
	}
	if !errors.Is(err, class) || !errors.Is(err, policy.ErrMalformed) || errors.Is(err, policy.ErrTooLarge) {
		t.Errorf("%s: class of %v", document, err)
	}
	if !strings.HasPrefix(err.Error(), fmt.Sprintf("line %d, column %d: ", line, column)) {
		t.Errorf("message %q", err)
	}
}

func TestMalformed(t *testing.T) {
	for _, c := range malformedCases {
		t.Run(c.name, func(t *testing.T) { refused(t, policy.Rules{}, c.document, c.reason, policy.ErrMalformed) })
	}
	for _, c := range malformedConditions {
		t.Run("condition: "+c.name, func(t *testing.T) {
			doc := "{\"Version\": \"2012-10-17\",\n\"Statement\": [{" + ok + "},\n{" + strings.Replace(ok, "Allow", "Deny", 1) + ", \"Condition\":\n" + c.condition + "}]}"
			refused(t, policy.Rules{}, doc, c.reason, policy.ErrMalformed)
		})
	}
	for _, c := range malformedPrincipals {
		t.Run("principal: "+c.principal, func(t *testing.T) {
			doc := `{"Statement": {"Effect": "Allow", "Principal": {"AWS": ["000000000000", ›` + c.principal + `]}}}`
			refused(t, policy.Rules{}, doc, c.reason, policy.ErrInvalidPrincipal)
		})
	}
	for _, name := range []string{"", "kmsfs", "Kmsfs.local", "kms fs.local", "*.local", ".local", "https://a.b"} {
		doc := fmt.Sprintf(`{"Statement": {"Effect": "Allow", "Principal": {"Service": ›%q}}}`, name)
		refused(t, policy.Rules{}, doc, "is not the name of a service", policy.ErrInvalidPrincipal)
	}
	for _, c := range programCases {
		t.Run("program: "+c.name, func(t *testing.T) {
			doc := `{"Version": "2012-10-17", "Statement": ›{"Effect": "Allow", "Action": "*", "Resource": "*", ` + c.statement + `}}`
			refused(t, policy.Rules{}, doc, "a condition on the program narrows an Allow for users or groups", policy.ErrMalformed)
			parse(t, policy.Rules{}, strings.Replace(strings.Replace(doc, "›", "", 1), "Allow", "Deny", 1)) // a Deny may
		})
	}
}

// TestKinds: what documents of identities and directories must and may not have.
func TestKinds(t *testing.T) {
	identity, directory := policy.Rules{Kind: policy.IdentityPolicy}, policy.Rules{Kind: policy.DirectoryPolicy}
	refused(t, identity, `{"Statement": {"Effect": "Allow", "Principal": ›"*", "Action": "*", "Resource": "*"}}`, "names no principals", policy.ErrMalformed)
	refused(t, identity, `{"Statement": {"Effect": "Deny", "NotPrincipal": ›"*", "Action": "*", "Resource": "*"}}`, "names no principals", policy.ErrMalformed)
	refused(t, identity, `{"Statement": ›{"Effect": "Allow", "Action": "*"}}`, "neither Resource nor NotResource", policy.ErrMalformed)
	refused(t, identity, `{"Statement": ›{"Effect": "Allow", "Resource": "*"}}`, "neither Action nor NotAction", policy.ErrMalformed)
	refused(t, directory, `{"Statement": ›{"Effect": "Allow", "Principal": "*"}}`, "neither Action nor NotAction", policy.ErrMalformed)
	refused(t, directory, `{"Statement": ›{"Effect": "Allow", "Action": "*"}}`, "neither Principal nor NotPrincipal", policy.ErrMalformed)

	parse(t, identity, `{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"kmsfs:Program": "/bin/a"}}}}`)
	d := parse(t, directory, `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "kmsfs:*"}}`)
	if got := d.Evaluate(request(action("kmsfs:Read"), resource(""))); got.Effect != policy.Allow || got.Source != policy.FromDirectoryPolicy {
		t.Errorf("a directory's statement without Resource: %+v", got)
	}

	directory.Actions = []string{"kmsfs:Read", "kmsfs:Write"}
	parse(t, directory, `{"Statement": {"Effect": "Allow", "Principal": "*", "Action": ["kmsfs:read", "kmsfs:W*", "*"]}}`)
	for _, name := range []string{"kmsfs:Reed", "kms:Decrypt", "kms:*"} {
		refused(t, directory, fmt.Sprintf(`{"Statement": {"Effect": "Allow", "Principal": "*", "Action": ›%q}}`, name), "matches no action", policy.ErrMalformed)
	}
}

// TestResolve: the caller decides which principals exist.
func TestResolve(t *testing.T) {
	var asked []string
	rules := policy.Rules{Resolve: func(p string) error {
		asked = append(asked, p)
		if strings.HasSuffix(p, "mallory") {
			return errors.New("no such user")
		}
		return nil
	}}
	parse(t, rules, document(allowAlice, denyAll, allowRoot, strings.Replace(allowAlice, `"alice"`, `"again"`, 1),
		`{"Effect": "Deny", "NotPrincipal": {"Service": "kmsfs.local.amazonaws.com", "AWS": "000000000000"}, "Action": "*", "Resource": "*"}`))
	want := []string{iam + "user/alice", iam + "root", "kmsfs.local.amazonaws.com", acct}
	if fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
	refused(t, rules, "{\"Statement\": {\"Effect\": \"Allow\", \"Principal\": {\"AWS\":\n [\"*\", ›\"arn:aws:iam::000000000000:unix/user/mallory\"]}, \"Action\": \"*\", \"Resource\": \"*\"}}",
		"is not known here: no such user", policy.ErrInvalidPrincipal)
}

// TestLimits: each limit, at it and beyond it.
func TestLimits(t *testing.T) {
	fill := func(n int) string {
		doc := `{"Statement": {` + ok + `}}`
		return doc + strings.Repeat(" ", n-len(doc))
	}
	parse(t, policy.Rules{}, fill(policy.MaxDocument))
	_, err := policy.Parse([]byte(fill(policy.MaxDocument + 1)))
	if !errors.Is(err, policy.ErrTooLarge) || errors.Is(err, policy.ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
	if _, err := policy.Parse(make([]byte, 10<<20)); !errors.Is(err, policy.ErrTooLarge) {
		t.Errorf("10 MiB: %v", err)
	}

	repeat := func(n int, s string) string { return strings.Repeat(s+",", n-1) + s }
	for _, c := range []struct {
		name   string
		limit  int
		make   func(n int) string
		reason string
	}{
		{"statements", policy.MaxStatements, func(n int) string {
			return `{"Statement": ›[` + repeat(n, `{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}`) + `]}`
		}, "statements, at most 256"},
		{"actions", policy.MaxValues, func(n int) string {
			return `{"Statement": {"Effect": "Deny", "Principal": "*", "Resource": "*", "Action": ›[` + repeat(n, `"kms:Sign"`) + `]}}`
		}, "entries, at most 1024"},
		{"conditions", policy.MaxConditions, func(n int) string {
			keys := ""
			for i := range n - 1 {
				keys += fmt.Sprintf(`"kms:EncryptionContext:%d": "",`, i)
			}
			return `{"Statement": {` + ok + `, "Condition": {"StringEquals": {` + keys + `›"kms:EncryptionContext:x": ""}}}}`
		}, "more than 64 conditions"},
		{"a value", policy.MaxPattern, func(n int) string {
			return `{"Statement": {` + ok + `, "Condition": {"StringEquals": {"aws:UserAgent": ›"` + strings.Repeat("x", n) + `"}}}}`
		}, "is too long"},
		{"a resource", policy.MaxPattern, func(n int) string {
			return `{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": ›"a:b:c:d:e:` + strings.Repeat("x", n-10) + `"}}`
		}, "is too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parse(t, policy.Rules{}, strings.Replace(c.make(c.limit), "›", "", 1))
			refused(t, policy.Rules{}, c.make(c.limit+1), c.reason, policy.ErrMalformed)
		})
	}
	long := `{"Statement": {"Effect": "Deny", "Principal": {"AWS": ›"arn:aws:iam::000000000000:user/` + strings.Repeat("x", policy.MaxPattern) + `"}}}`
	refused(t, policy.Rules{}, long, "is too long", policy.ErrInvalidPrincipal)
	if _, err := policy.Parse([]byte(strings.Replace(long, "›", "", 1))); len(err.Error()) > 400 {
		t.Errorf("a message of %d bytes", len(err.Error()))
	}
}
