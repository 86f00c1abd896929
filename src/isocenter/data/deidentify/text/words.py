"""Words that tell names of persons from other words: common names, and terms that wear a capital and are no names."""

from __future__ import annotations

__all__ = ["EPONYMS", "FIRST_NAMES", "NOT_NAMES", "SURNAMES"]

_FIRST_NAMES_TEXT = """
aaron abigail adam adrian agnes ahmed aisha alan albert alejandro alex alexander alexandra alice alicia alison
allison amanda amber amelia amir amit amy ana andre andrea andreas andrew angela anita anja anna anne annette
anthony antonio antonia april arthur ashley barbara beatriz benjamin bernard beth betty beverly bradley brandon
brenda brian brigitte bruce bryan camille carl carla carlos carmen carol caroline carolyn catherine cecilia charles
charlotte cheryl chloe chris christian christina christine christopher cindy claire clara claudia connie craig
cristina crystal cynthia daniel daniela danielle david dawn deborah debra denise dennis derek diana diane diego
dieter dmitri dolores donald donna doris dorothy douglas dylan edith eduardo edward eileen elaine elena eli elias
elizabeth ellen elsa emily emma enrique eric erica ernest esther ethan eugene eva evelyn fatima felix fernando
florence frances francisco frank franz fred frederick gabriel gabriela gareth gary george gerald geraldine gisela
gloria gordon grace graham greg gregory guillermo hannah hans harold harriet harry hassan heather hector heidi
heinrich helen helga henry holly horst howard hugh ian ibrahim ingrid irene iris isabel isabella isaac ivan jack
jacob jacqueline jake james jamie jan jane janet janice jasmine jason javier jean jeffrey jennifer jeremy jerry
jesse jessica jill joan joanna joao joe joel johan johanna john johnny jonathan jorge jose joseph joshua joyce juan
juana judith judy julia julian julie jun jurgen justin karen karin karl katherine kathleen kathryn katie keith kelly
kenneth kevin kimberly klaus kristen kyle larry laura lauren lawrence leonard leslie li lillian linda lisa liu logan
louis louise lucia lucas lucy luis luke lydia madison manuel marc marcus margaret margarita maria marie marilyn
mario marion marjorie mark markus marta martha martin mary mason mateo matthew matthias megan mei melissa michael
michelle miguel mohamed mohammed monica monika muhammad nancy naomi natalia natalie nathan nicholas nicole nigel
nina noah nora norma olga oliver olivia omar oscar pablo pamela patricia patrick paul paula pedro peggy penelope
peter petra philip phillip phyllis priya rachel rafael raj ralph ramon raquel raymond rebecca regina renate ricardo
richard robert roberto robin rodrigo roger ronald rosa rose rosemary roy ruben russell ruth ryan sabine sally
samantha samuel sandra sara sarah scott sean sebastian sergei sergio sharon shaun shirley silvia simon sofia sonia
sophia sophie stefan stephanie stephen steve steven stuart susan susana suzanne sven sylvia tamara tanya teresa
terry theodore theresa thomas tiffany timothy tina todd tomas tracy trevor tyler ursula uwe valerie vanessa vera
veronica victor victoria vincent virginia walter wanda wayne wei wendy werner wilhelm william wolfgang xavier yan
yasmin yolanda yuki yusuf yvonne zachary zoe
"""
_SURNAMES_TEXT = """
adams ahmed alexander ali allen alvarez anderson andrews bailey baker barnes becker bell bennett brooks brown bryant
butler campbell carter castillo castro chan chang chavez chen cheng chopra clark clarke coleman collins cook cooper
cox cruz das davies davis delgado diaz edwards evans fernandez fischer fisher flores ford foster freeman garcia
gibson gomez gonzalez gonzales graham gray green griffin gupta gutierrez hall hamilton harris harrison hartmann
hayes henderson hernandez herrera hoffmann howard huang hughes hussain ibrahim ivanov jackson james jenkins jensen
jimenez johnson jones jordan kaur kelly kennedy khan kim king klein koch kowalski krause kruger kumar lang lee
lehmann lewis li lin liu lopez lutz maier marshall martin martinez mason mccarthy mcdonald medina mehta mendoza
meyer miller mitchell mohamed molina moore morales moreno morgan morris muller munoz murphy murray myers nakamura
navarro nelson neumann newton nguyen novak ortega ortiz owens palmer parker patel patterson pereira perez perry
peters peterson petrov pham phillips popov powell price quinn ramirez ramos rao reddy reed reyes reynolds richardson
richter rivera roberts robertson robinson rodriguez rogers rojas romero rossi ruiz russell ryan sanchez sanders
santos sato schafer schmidt schmitt schneider schroder schulz schwarz scott sharma shaw silva simmons simpson singh
smith snyder stephens stevens stewart sullivan suzuki takahashi tanaka taylor thomas thompson torres tran turner
vargas vasquez vazquez wagner walker wallace walsh wang ward washington watson weber werner west white williams
wilson wolf wong wood woods wright wu xu yamamoto yang young zhang zhao zhou zimmermann
"""
_EPONYMS_TEXT = """
achilles addison alzheimer apgar ascher askin baker bankart barrett barton basedow behcet bell bennett berry
bochdalek bosniak bouchard bowman broca brodie bucky budd burkitt calot cantlie caroli castleman chagas charcot
chiari child chopart cobb coley colles conn cooper coombs couinaud couvelaire cowden crohn cushing dandy dejerine
dercum deauville doppler douglas down dressler duchenne dukes dupuytren ebstein ehlers eisenmenger erdheim
eustachian evans ewing fabry fallopian fallot fazekas fisher fleischner foley fontan fowler frykman galeazzi galen
garden gartland gaucher gerota glasgow gleason goodpasture graafian graves grawitz grynfeltt gustilo hallux hamman
hampton harrison hartmann hashimoto haversian heberden henoch herring heschl hill hirschsprung hodgkin horner
hounsfield huntington hurthle hutch jefferson jones kaposi kawasaki kellgren kerley kienbock killian klatskin
klippel kohler krukenberg kupffer lachman langerhans larmor lauge legg lemierre leriche leydig lisfranc littre
ludwig luschka lynch mackler magendie maisonneuve mallory marfan maydl mckusick meckel meigs meniere merkel meyers
michaelis mirizzi monro monteggia morel morison morgagni morton murphy naboth osgood osler paget pancoast
papanicolaou parkinson pellegrini perthes petit peutz peyer peyronie pfannenstiel phalen pick plummer pott potts
poupart pringle raynaud reed richter riedel riedel rokitansky rolandic rotter rouviere ruedi sachs salter santorini
schatzker schatzki scheuermann schlatter schmorl schwann segond seldinger sertoli sharpey sheehan sister sjogren
skene smith sorensen spigelian stener sternberg stevens still sturge sudeck swan swyer sylvian takayasu tarlov
tillaux toldt tossy tourette trendelenburg treitz troisier turner valsalva vater virchow waldeyer wallenberg warthin
weber wegener weigert wernicke westermark wharton whipple willis wilms wilson winslow wirsung wolff wormian zenker
zollinger
"""
_NOT_NAMES_TEXT = """
omniscan magnevist multihance prohance eovist primovist gadavist clariscan optiray xenetix iomeron imeron hexabrix
lipiodol feraheme sonovue definity lumason lexiscan buscopan glucagon lasix classic images software release routine
thorax neuro joints extremity extremities hips knees feet hands angio angiography perfusion diffusion localizer
scout survey research clinical libraries library thin thick recon whole cardiac cervix larynx pharynx
orbits ear ears teeth jaw foot finger fingers toe toes leg legs arm arms forearm humerus radius ulna tibia fibula
patella clavicle scapula sternum ribs temporal bones face facial mandible salivary parathyroid adrenal adrenals
rectal vagina penis scrotum testis testicle seminal biliary portal venous arterial delayed phase native mip mpr vr
dose topogram smart dra prof professor mrs mr miss nurse dr drs sr sra srta don herr frau within ill pacemaker
generator mediport port device a abdomen abdominal above abnormal accession acute addendum additional admission age
ago ai all allergies also american an and ankle anterior any aorta aortic apex appendix approved are artery as
assessment at atlas axial back base beam benign bi biopsy birads bladder blood body bone bowel brain breast
bronchial by calcification cancer cardiac carotid case cc cervical change chest chief chronic clinic clinical colon
comment comments comparison complaint complete compared conclusion conditions consistent contact contrast coronal
coronary cough ct date dear degenerative department diagnosis diagnostic diaphragm did discharge disc disease dose
dr due duct ed elbow electronically emergency end enlarged er evaluation exam examination external eye fax female
femoral femur fever fibroid film final finding findings first fluid focal follow for fracture frontal from
gallbladder general grade hand head heart hepatic her hernia high hilar hip his history hospital however icu if ii
iii image images imaging impression in increased indication indications inferior internal interval interpretation
intravenous is it iv joint kidney knee known left lesion limited liver lobe lower lumbar lung lungs lymph male
mammogram mass may mean medial medical medication medications mediastinal mediastinum mild minimal moderate mr mri
multiple muscle nasal neck negative new no node nodule none normal not note number of on oncology one operator
opacity or orbit order other outside over ovary page pain pancreas patient pelvic pelvis pet phone physical
physician plan plain please pleural pneumonia portable positive possible post posterior pre prior probable problem
procedure prostate protocol provider pulmonary radiograph radiologist radiology re read reason recommend
recommendation recommendations reconstruction referred referring rectum renal report reported requested result
results review reviewed rib right room sacrum sagittal scan score sequence series severe she shoulder sign signed
sinus skull small soft spine spleen st stable stage standard sternum stomach study subcutaneous superior surgery
surgical symptoms syndrome technique test that the there these this thoracic thorax thyroid time tissue to today
total trachea transcribed transverse trauma treatment tube tumor type ultrasound unit unremarkable upper ureter
urgent urinary us uterus vein verified vertebral vessel view views visit wall ward was we were when with without
wrist x yes zone sir madam colleague colleagues team doctor all md phd rn frcr xxxx xxx unknown unnamed anonymous
himself herself who monday tuesday wednesday thursday friday saturday sunday january february march april june july
august september october november december english spanish german chinese gadolinium gadovist dotarem omnipaque
isovue visipaque ultravist iohexol siemens philips ge toshiba canon hologic fuji hitachi varian elekta accuray epic
powerscribe nuance dragon
"""

FIRST_NAMES = frozenset(_FIRST_NAMES_TEXT.split())
SURNAMES = frozenset(_SURNAMES_TEXT.split())
EPONYMS = frozenset(_EPONYMS_TEXT.split())
NOT_NAMES = frozenset(_NOT_NAMES_TEXT.split())
