package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

const (
	pull = "pull"
	push = "push"
)

// account may use the repositories at and below its prefix.
type account struct{ name, password, prefix string }

type accounts []account

func (a *accounts) String() string { return "" }

func (a *accounts) Set(value string) error {
	parts := strings.SplitN(value, ":", 3)
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return fmt.Errorf("want name:password:repo-prefix")
	}
	*a = append(*a, account{parts[0], parts[1], parts[2]})
	return nil
}

type prefixes []string

func (p *prefixes) String() string { return "" }

func (p *prefixes) Set(value string) error {
	*p = append(*p, value)
	return nil
}

// below compares whole path components; the empty prefix holds everything.
func below(repository, prefix string) bool {
	return prefix == "" || repository == prefix || strings.HasPrefix(repository, prefix+"/")
}

// rules say who may do what.
type rules struct {
	pullers, pushers accounts
	anonymous        prefixes
}

// known tells whether some account has this name and password.
func (r rules) known(name, password string) bool {
	return slices.ContainsFunc(slices.Concat(r.pullers, r.pushers), func(a account) bool {
		return a.name == name && a.password == password
	})
}

// allows decides for an account already known, or for anyone when name is empty.
func (r rules) allows(name, action, repository string) bool {
	granted := func(a account) bool { return name != "" && a.name == name && below(repository, a.prefix) }
	if slices.ContainsFunc(r.pushers, granted) {
		return true
	}
	return action == pull && (slices.ContainsFunc(r.pullers, granted) ||
		slices.ContainsFunc(r.anonymous, func(p string) bool { return below(repository, p) }))
}

// wanted is the action and repository of a request; the repository is empty
// for requests about none, such as the version check `/v2/`.
func wanted(r *http.Request) (action, repository string) {
	action = push
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		action = pull
	}
	elements := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	for i := len(elements) - 2; i > 1; i-- {
		if slices.Contains([]string{"manifests", "blobs", "tags", "referrers"}, elements[i]) {
			return action, strings.Join(elements[1:i], "/")
		}
	}
	return action, ""
}

// refuse answers as the distribution specification has it.
func refuse(w http.ResponseWriter, challenge, code string) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	w.Header().Set("WWW-Authenticate", challenge)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"authentication required"}]}`+"\n", code)
}
