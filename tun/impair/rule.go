package impair

type rule struct{}
type ruleFlow struct{}
