package browser

import "testing"

// stories of the pictures: a short page, and transfers with losses that are repaired in several ways.
func storyPlots() []plot {
	return []plot{
		{client: "10.9.0.1:40000", start: 1, bytes: 12, rtt: 0.02, rate: 2e6},
		{client: "10.9.0.1:40007", start: 2, bytes: 1_200_000, rtt: 0.02, rate: 1.2e6, lose: map[int]bool{60: true, 210: true, 212: true, 500: true}},
		{client: "10.9.0.1:40014", start: 2.5, bytes: 9_000, rtt: 0.02, rate: 2e6, lose: map[int]bool{3: true}},
	}
}

// TestLooks keeps pictures of each view at the sizes and in the colours that people have.
func TestLooks(t *testing.T) {
	f := newFixture(t, storyPlots()...)
	for name, l := range map[string]look{"desktop": desktop, "night": night, "phone": phone} {
		t.Run(name, func(t *testing.T) {
			p := open(t, l, f.URL)
			p.until("the table", `document.querySelectorAll('#sockets tbody tr').length > 5`)
			p.settle()
			p.keep("overview", true)
			for view, hash := range map[string]string{"page": "#/conn/1", "transfer": "#/conn/2", "loss": "#/conn/3"} {
				p.visit(hash)
				p.until("the view "+view, `document.querySelectorAll('#ladder .row').length > 5`)
				p.settle()
				p.keep(view, true)
			}
		})
	}
}
