package stack

import "github.com/catflap/catflap/stack/route"

// The routing policy database is package route's. These are its names for users of a
// stack.
type (
	Family        = route.Family
	TableID       = route.TableID
	Route         = route.Route
	RouteType     = route.Type
	Scope         = route.Scope
	RouteProtocol = route.Protocol
	RouteMatch    = route.RouteMatch
	Rule          = route.Rule
	RuleAction    = route.Action
	RuleMatch     = route.RuleMatch
	RouteQuery    = route.Query
	RouteTry      = route.Try
	RouteLookup   = route.Lookup
)

// The values of those types.
const (
	IPv4 = route.IPv4
	IPv6 = route.IPv6

	TableDefault = route.TableDefault
	TableMain    = route.TableMain
	TableLocal   = route.TableLocal

	Unicast     = route.Unicast
	Local       = route.Local
	Broadcast   = route.Broadcast
	Multicast   = route.Multicast
	Unreachable = route.Unreachable
	Prohibit    = route.Prohibit
	Blackhole   = route.Blackhole
	Throw       = route.Throw

	ScopeGlobal  = route.ScopeGlobal
	ScopeSite    = route.ScopeSite
	ScopeLink    = route.ScopeLink
	ScopeHost    = route.ScopeHost
	ScopeNowhere = route.ScopeNowhere

	ProtoUnspec = route.ProtoUnspec
	ProtoKernel = route.ProtoKernel
	ProtoBoot   = route.ProtoBoot
	ProtoStatic = route.ProtoStatic

	ActionLookup      = route.ActionLookup
	ActionUnreachable = route.ActionUnreachable
	ActionProhibit    = route.ActionProhibit
	ActionBlackhole   = route.ActionBlackhole
)
