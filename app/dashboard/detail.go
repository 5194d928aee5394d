package dashboard

import "net/http"

func (s *Server) packet(r *http.Request) (any, error) {
	return nil, refusef(http.StatusNotFound, "", "packet %s is not kept", r.PathValue("seq"))
}
