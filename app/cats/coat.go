package cats

import "slices"

// coat is a palette and the patterns it comes in.
type coat struct {
	name     string
	base     rgb
	light    rgb   // belly, muzzle
	mark     rgb   // stripes, spots, points
	nose     rgb   // and paw pads
	accents  []rgb // patches
	patterns []string
	eyes     []string // names in eyeColours
}

var coats = []coat{
	{name: "ginger", base: 0xf2a55c, light: 0xffe9cc, mark: 0xcf6e28, nose: 0xe5807c, accents: []rgb{0xfff6e8},
		patterns: []string{patternTabby, patternTabby, patternSolid, patternBicolour, patternSocks},
		eyes:     []string{"green", "amber", "copper"}},
	{name: "brown", base: 0xb18a68, light: 0xecd9bd, mark: 0x5d4333, nose: 0xc9746c, accents: []rgb{0xfbf3e6},
		patterns: []string{patternTabby, patternTabby, patternSpotted, patternSpotted, patternBicolour},
		eyes:     []string{"green", "amber", "hazel"}},
	{name: "silver", base: 0xc9ced6, light: 0xf6f8fa, mark: 0x5d6673, nose: 0xd98c8c, accents: []rgb{0xffffff},
		patterns: []string{patternTabby, patternSpotted, patternSpotted, patternBicolour},
		eyes:     []string{"green", "aqua", "amber"}},
	{name: "golden bengal", base: 0xe3b26a, light: 0xfbeccb, mark: 0x6b4226, nose: 0xc8695c, accents: []rgb{0xfff6e8},
		patterns: []string{patternSpotted},
		eyes:     []string{"green", "hazel", "aqua"}},
	{name: "blue-grey", base: 0x8f9db3, light: 0xd3dbe6, mark: 0x65738c, nose: 0x7a7f95, accents: []rgb{0xf7f9fc},
		patterns: []string{patternSolid, patternTabby, patternBicolour, patternSocks},
		eyes:     []string{"copper", "amber", "green"}},
	{name: "black", base: 0x453f4d, light: 0x625b6c, mark: 0x2c2833, nose: 0x8a6f78, accents: []rgb{0xfdfaf5},
		patterns: []string{patternSolid, patternSolid, patternSocks},
		eyes:     []string{"amber", "green", "copper"}},
	{name: "white", base: 0xfcf8f2, light: 0xffffff, mark: 0xe2d5c6, nose: 0xf09ca0, accents: []rgb{0x8f8a92, 0x5d5560},
		patterns: []string{patternSolid, patternPatches},
		eyes:     []string{"blue", "green", "amber"}},
	{name: "cream", base: 0xf8dcb6, light: 0xfff6e6, mark: 0xdfae72, nose: 0xeb9a94, accents: []rgb{0xfffdf8},
		patterns: []string{patternSolid, patternTabby, patternBicolour},
		eyes:     []string{"copper", "blue", "green"}},
	{name: "chocolate", base: 0x855f4d, light: 0xb08a74, mark: 0x5a3c2f, nose: 0xc48a80, accents: []rgb{0xfaf1e4},
		patterns: []string{patternSolid, patternSocks, patternBicolour},
		eyes:     []string{"green", "amber", "aqua"}},
	{name: "siamese", base: 0xf6e9d6, light: 0xfffaf1, mark: 0x5a4338, nose: 0x4a3630,
		patterns: []string{patternMask},
		eyes:     []string{"blue", "ice blue"}},
	{name: "blue-point", base: 0xeeeff2, light: 0xffffff, mark: 0x7c88a0, nose: 0x6d7488,
		patterns: []string{patternMask},
		eyes:     []string{"blue", "ice blue"}},
	{name: "calico", base: 0xfdf8f0, light: 0xffffff, mark: 0x4a4149, nose: 0xf09ca0, accents: []rgb{0xef9a4c, 0x4a4149},
		patterns: []string{patternPatches},
		eyes:     []string{"green", "amber", "copper"}},
	{name: "tortoiseshell", base: 0x52423f, light: 0x8a6a58, mark: 0x372c2b, nose: 0xb9786e, accents: []rgb{0xd98842, 0xefb877},
		patterns: []string{patternPatches},
		eyes:     []string{"amber", "green", "copper"}},
	{name: "tuxedo", base: 0x413c49, light: 0xfdfaf5, mark: 0x2c2833, nose: 0xe39a9a, accents: []rgb{0xfdfaf5},
		patterns: []string{patternBicolour},
		eyes:     []string{"green", "amber", "aqua"}},
}

var eyeColours = map[string]rgb{
	"green":    0x8fc15b,
	"amber":    0xf2b632,
	"copper":   0xd9823a,
	"hazel":    0xb7a548,
	"aqua":     0x5fc4b8,
	"blue":     0x5aa7e0,
	"ice blue": 0x9cd3f2,
}

func coatNamed(name string) coat {
	return coats[slices.IndexFunc(coats, func(c coat) bool { return c.name == name })]
}

// only reports whether the coat's name implies the pattern.
func (c coat) only(pattern string) bool { return len(c.patterns) == 1 && c.patterns[0] == pattern }

// dark reports whether features must be drawn light to be seen on the base.
func (c coat) dark() bool { return c.base.luma() < 0.42 }
