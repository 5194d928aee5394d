// Package route is the routing policy database: rules, tables and what follows from a
// device's addresses, as Linux has them (ip-rule(8), ip-route(8)).
//
// Everything in it is a value. A [DB] never changes; each change makes a new one, so that
// packets look up without a lock and see all of a change or nothing of it. The code that
// decides for packets, [DB.Decide], also writes down what it tried: [DB.Explain].
package route
