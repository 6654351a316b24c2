package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLicenses(t *testing.T) {
	isc, err := os.ReadFile("testdata/ISC.txt")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		files map[string]string
		want  string // in the output
		err   string // in the error
	}{
		"a license and a notice": {
			files: map[string]string{"LICENSE": string(isc), "NOTICE.txt": "This has something of somebody.", "license.go": "package a", "LICENSE.docs": "x"},
			want:  "\nexample.com/a v1.0.0: ISC\n",
		},
		"none":                          {files: map[string]string{"NOTICE": "x", "README.md": string(isc)}, err: "example.com/a v1.0.0 has no license"},
		"a text that is no license":     {files: map[string]string{"LICENSE": "All rights reserved."}, err: "example.com/a v1.0.0 LICENSE is not a license that is known: 0%"},
		"a license with conditions":     {files: map[string]string{"COPYING.md": string(isc) + strings.Repeat("You shall pay. ", 100)}, err: "COPYING.md is not a license that is known"},
		"one that is not accepted":      {files: map[string]string{"LICENSE": "https://creativecommons.org/licenses/by-nc-nd/4.0/"}, err: "has the license CC-BY-NC-ND-4.0"},
		"another beside one that is ok": {files: map[string]string{"LICENSE": string(isc), "license-2.txt": "x"}, err: "license-2.txt is not"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			all := newCollection()
			err := all.directory("example.com/a v1.0.0", "", dir)
			var b bytes.Buffer
			if err == nil {
				err = all.write(&b)
			}
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if text := b.String(); err == nil && (!strings.Contains(text, tc.want) || !strings.Contains(text, strings.TrimSpace(string(isc))) || !strings.Contains(text, tc.files["NOTICE.txt"])) {
				t.Errorf("got %s", text)
			}
		})
	}
}
